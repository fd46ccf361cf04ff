// The list of conversations: open, rename, delete, and all of them to a file and back.
import * as conversations from "./conversations.js";
import {$, element, iconButton, toast} from "./dom.js";

const kDay = 24 * 60 * 60 * 1000;

let actions = {};

// "Today" and the rest, by the calendar of this computer.
function ageOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) {
    return "Today";
  }
  if (time >= midnight - kDay) {
    return "Yesterday";
  }
  return time >= midnight - 7 * kDay ? "Last seven days" : "Earlier";
}

function rowOf(conversation, isCurrent) {
  const title = conversations.titleOf(conversation);
  const row = element("li", {class: isCurrent ? "conversation current" : "conversation", "data-id": conversation.id},
    element("button", {type: "button", class: "conversation-open", "aria-current": isCurrent ? "true" : undefined,
                       title, onclick: () => actions.open(conversation.id)}, title),
    iconButton("edit", `Rename ${title}`, () => rename(conversation, row)),
    iconButton("delete", `Delete ${title}`, () => actions.remove(conversation)));
  return row;
}

// The row that has the focus keeps it, or the first one gets it if that row is gone.
function keepingFocus(rebuild) {
  const list = $("conversations");
  const id = list.contains(document.activeElement) ? document.activeElement.closest("li").dataset.id : null;
  rebuild(list);
  if (id !== null) {
    const rows = [...list.querySelectorAll("li")];
    const row = rows.find((candidate) => candidate.dataset.id === id) ?? rows[0];
    (row?.querySelector(".conversation-open") ?? $("new-conversation")).focus();
  }
}

export function showList(currentId) {
  if (document.activeElement?.matches(".rename")) {
    return;  // the list comes up to date when the new name is there
  }
  const groups = new Map();
  for (const conversation of conversations.newestFirst()) {
    const age = ageOf(conversation.updated);
    groups.set(age, [...(groups.get(age) ?? []), rowOf(conversation, conversation.id === currentId)]);
  }
  keepingFocus((list) => list.replaceChildren(...[...groups].flatMap(([age, rows]) =>
    [element("p", {class: "age", "aria-hidden": "true"}, age), element("ul", {"aria-label": age}, ...rows)])));
}

function rename(conversation, row) {
  const input = element("input", {class: "rename", "aria-label": "Title of the conversation", maxlength: 120});
  input.value = conversations.titleOf(conversation);
  let done = false;
  const finish = (keep) => {
    if (done) {
      return;
    }
    done = true;
    input.remove();
    const title = input.value.trim();
    actions.renamed(conversation, keep && title !== conversations.titleOf(conversation) ? title : null);
  };
  input.addEventListener("blur", () => finish(true));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      finish(event.key === "Enter");
      document.querySelector(`.conversation[data-id="${CSS.escape(conversation.id)}"] .conversation-open`)?.focus();
    }
  });
  row.replaceChildren(input);
  input.select();
}

function exportAll() {
  const url = URL.createObjectURL(new Blob([conversations.exported()], {type: "application/json"}));
  element("a", {href: url, download: "adze-conversations.json"}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

async function importFile() {
  const [file] = $("import-file").files;
  $("import-file").value = "";
  if (!file) {
    return;
  }
  try {
    const added = conversations.importText(await file.text());
    toast(added === 1 ? "1 conversation imported" : `${added} conversations imported`);
  } catch (error) {
    toast(error.message);
  }
  actions.imported();
}

// `given`: {open(id), remove(conversation), renamed(conversation, title or null), imported()}
export function setUpList(given) {
  actions = given;
  $("export").addEventListener("click", exportAll);
  $("import").addEventListener("click", () => $("import-file").click());
  $("import-file").addEventListener("change", importFile);
}
