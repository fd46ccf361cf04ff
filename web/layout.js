// What surrounds the chat: the two side panes, the theme. On a narrow screen a pane lies over the
// chat and everything else is out of reach until it is closed.
import {$} from "./dom.js";

const kWide = {history: matchMedia("(min-width: 62rem)"), panel: matchMedia("(min-width: 62rem)")};
const kPanes = ["history", "panel"];
const others = ["chat", "history", "panel"];

const isOpen = (name) => $("app").dataset[name] === "open";
const button = (name) => $(`toggle-${name}`);

function remember(name, value) {
  try {
    localStorage.setItem(`adze.${name}`, value);
  } catch {
    // Storage is blocked.
  }
}

function recall(name) {
  try {
    return localStorage.getItem(`adze.${name}`);
  } catch {
    return null;
  }
}

function apply() {
  const over = kPanes.find((name) => isOpen(name) && !kWide[name].matches);
  for (const id of others) {
    $(id).inert = over !== undefined && over !== id;
  }
  $("backdrop").hidden = over === undefined;
  for (const name of kPanes) {
    button(name).setAttribute("aria-expanded", String(isOpen(name)));
  }
}

export function setPane(name, open) {
  $("app").dataset[name] = open ? "open" : "closed";
  if (kWide[name].matches) {
    remember(name, open ? "open" : "closed");
  }
  apply();
  if (!kWide[name].matches) {
    (open ? $(name).querySelector(".close-side") : button(name)).focus();
  }
}

// True if there was a pane to close.
export function closeOverlay() {
  const over = kPanes.find((name) => isOpen(name) && !kWide[name].matches);
  if (over) {
    setPane(over, false);
  }
  return over !== undefined;
}

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";

function showTheme() {
  $("toggle-theme").setAttribute("aria-pressed", String(isDark()));
}

function toggleTheme() {
  const dark = !isDark();
  // The system's own theme is no choice: the page goes on following it.
  if (dark === systemDark.matches) {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }
  remember("theme", document.documentElement.dataset.theme ?? "system");
  showTheme();
}

export function setUpLayout() {
  const start = () => {
    for (const name of kPanes) {
      $("app").dataset[name] = kWide[name].matches && recall(name) !== "closed" ? "open" : "closed";
    }
    apply();
  };
  start();
  kWide.history.addEventListener("change", start);
  for (const name of kPanes) {
    button(name).addEventListener("click", () => setPane(name, !isOpen(name)));
    document.querySelector(`[data-close=${name}]`).addEventListener("click", () => setPane(name, false));
  }
  $("backdrop").addEventListener("click", closeOverlay);
  $("toggle-theme").addEventListener("click", toggleTheme);
  systemDark.addEventListener("change", showTheme);
  showTheme();
}
