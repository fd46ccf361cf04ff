// Elements without a framework.

export const $ = (id) => document.getElementById(id);

// element("button", {type: "button", class: "x", onclick: f, "aria-label": "Copy"}, "text", node)
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) {
      continue;
    }
    if (name.startsWith("on")) {
      node.addEventListener(name.slice(2), value);
    } else {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const kSvg = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(kSvg, tag);
  for (const [name, value] of Object.entries(attributes)) {
    node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function icon(name) {
  return svg("svg", {"aria-hidden": "true"}, svg("use", {href: `#icon-${name}`}));
}

export function setIcon(button, name) {
  button.querySelector("use").setAttribute("href", `#icon-${name}`);
}

export function iconButton(name, label, onclick) {
  return element(
    "button",
    {type: "button", class: "icon-button", "aria-label": label, title: label, onclick},
    icon(name),
  );
}

// What screen readers say, once, when there is something to say.
export function announce(text) {
  $("announcer").textContent = text;
}

let toastTimer = 0;

// A passing note; `action` {label, run} is the way back.
export function toast(text, action) {
  const box = $("toast");
  $("toast-text").textContent = text;
  const button = $("toast-action");
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = () => {
    box.hidden = true;
    action?.run();
  };
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (box.hidden = true), action ? 9000 : 4000);
}

// "Copy" turns into a tick for a moment.
export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No clipboard without https except on this computer: the old way.
    const field = element("textarea", {class: "visually-hidden"});
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  setIcon(button, "check");
  announce("Copied");
  setTimeout(() => setIcon(button, "copy"), 1500);
}
