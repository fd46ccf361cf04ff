// The chat: what is asked, what comes back, and the list of conversations.
import {ApiError, getJson, setKey, streamChat} from "./api.js";
import {showCache} from "./cache_picture.js";
import * as conversations from "./conversations.js";
import {$, announce, element, iconButton, setIcon, toast} from "./dom.js";
import {closeOverlay, setPane, setUpLayout} from "./layout.js";
import {exampleButton, MessageView} from "./message_view.js";
import {Settings} from "./settings.js";

const kExamples = [
  ["Explain something", "Why is the sky blue? Explain it to a ten-year-old in four sentences."],
  ["Write something", "Write a short poem about an old boat that learns to fly."],
  ["Make a table", "Compare tea and coffee in a small table: origin, taste, caffeine."],
];
const kNearEnd = 60;  // pixels: closer than this to the end, the view follows the answer

let current = conversations.create();
let views = [];
let running = null;  // {conversation, message, abort} while an answer comes in

// --- storage -------------------------------------------------------------------------------------

function save(conversation) {
  try {
    conversations.save(conversation);
  } catch (error) {
    toast(error.message);
  }
}

// A reload of this tab comes back to the same conversation.
function rememberOpen() {
  try {
    sessionStorage.setItem("adze.open", current.id);
  } catch {
    // Storage is blocked.
  }
}

// Not one that was deleted or put back in the meantime.
const isKept = (conversation) => conversations.get(conversation.id) === conversation;

// Puts a conversation back as it was.
function undoable(text, conversation) {
  const before = structuredClone(conversation);
  return () => toast(text, {label: "Undo", run: () => {
    stop();
    save(before);
    open(before.id);
  }});
}

// --- view ----------------------------------------------------------------------------------------

const scroller = $("scroller");
const isAtEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < kNearEnd;
let following = true;

function toEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  following = true;
  $("to-end").hidden = true;
}

scroller.addEventListener("scroll", () => {
  following = isAtEnd();
  $("to-end").hidden = following || current.messages.length === 0;
}, {passive: true});
$("to-end").addEventListener("click", () => {
  toEnd();
  $("prompt").focus();
});

function viewOf(message) {
  return new MessageView(message, {
    again: () => again(message),
    edit: (text) => edit(message, text),
    remove: () => removeMessage(message),
  });
}

// Messages that are still there keep their elements: no flicker, and the focus stays.
function showConversation() {
  const left = views.filter((view) => current.messages.includes(view.message));
  views.filter((view) => !left.includes(view)).forEach((view) => view.node.remove());
  const added = current.messages.slice(left.length).map(viewOf);
  $("messages").append(...added.map((view) => view.node));
  views = [...left, ...added];
  $("empty").hidden = current.messages.length > 0;
  if (running?.conversation === current) {
    views.at(-1).show(true);
  }
  showTitle();
  showList();
  showLastCache();
  toEnd();
}

function showLastCache() {
  const last = current.messages.findLast((message) => message.adze);
  showCache(last?.adze, last?.usage);
}

function showTitle() {
  const title = conversations.titleOf(current);
  $("title").textContent = title;
  document.title = current.messages.length > 0 ? `${title} – adze` : "adze";
}

function showList() {
  $("conversations").replaceChildren(...conversations.newestFirst().map((conversation) => {
    const title = conversations.titleOf(conversation);
    const isCurrent = conversation.id === current.id;
    const row = element("li", {class: isCurrent ? "conversation current" : "conversation"},
      element("button", {type: "button", class: "conversation-open", "aria-current": isCurrent ? "true" : undefined,
                         title, onclick: () => {
                           open(conversation.id);
                           closeOverlay();
                         }}, title),
      iconButton("edit", `Rename ${title}`, () => rename(conversation, row)),
      iconButton("delete", `Delete ${title}`, () => removeConversation(conversation)));
    return row;
  }));
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
    if (keep && input.value.trim() !== conversations.titleOf(conversation)) {
      conversation.title = input.value.trim();
      save(conversation);
    }
    showList();
    showTitle();
  };
  input.addEventListener("blur", () => finish(true));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      finish(event.key === "Enter");
      document.querySelector(".conversation.current .conversation-open")?.focus();
    }
  });
  row.replaceChildren(input);
  input.select();
}

function open(id) {
  current = conversations.get(id) ?? conversations.create();
  rememberOpen();
  showConversation();
}

function startNew() {
  open("");
  closeOverlay();
  $("prompt").focus();
}

function removeConversation(conversation) {
  const undo = undoable(`Deleted “${conversations.titleOf(conversation)}”`, conversation);
  if (running?.conversation === conversation) {
    stop();
  }
  conversations.remove(conversation.id);
  if (conversation.id === current.id) {
    startNew();
  } else {
    showList();
  }
  undo();
}

// --- asking --------------------------------------------------------------------------------------

function requestBody(conversation) {
  const messages = conversation.messages
    .filter((message) => message.role === "user" || message.content !== "")
    .map(({role, content}) => ({role, content}));
  const system = (settings.values.system ?? "").trim();
  if (system) {
    messages.unshift({role: "system", content: system});
  }
  return {
    ...($("model").value && {model: $("model").value}),
    messages,
    ...settings.body(),
    stream: true,
    stream_options: {include_usage: true},
    cache_picture: true,
  };
}

function showRunning() {
  const busy = running !== null;
  const send = $("send");
  send.classList.toggle("busy", busy);
  send.setAttribute("aria-label", busy ? "Stop" : "Send");
  send.title = busy ? "Stop (Esc)" : "Send (Enter)";
  setIcon(send, busy ? "stop" : "send");
  send.disabled = !busy && $("prompt").value.trim() === "";
}

function stop() {
  running?.abort.abort();
}

// Takes a chunk into the message; true if the picture of the cache has changed.
function takeChunk(message, chunk) {
  message.content += chunk.choices?.[0]?.delta?.content ?? "";
  message.finish = chunk.choices?.[0]?.finish_reason ?? message.finish;
  message.model = chunk.model ?? message.model;
  message.usage = chunk.usage ?? message.usage;
  if (chunk.adze) {
    message.adze = {...message.adze, ...chunk.adze};
  }
  return Boolean(chunk.adze || chunk.usage);
}

// Draws at most once a frame, and never spends more than about a fifth of the time on it.
class Painter {
  constructor(paint) {
    this.paint = paint;
    this.timer = 0;
    this.ready = 0;
  }
  wake() {
    this.timer ||= setTimeout(() => requestAnimationFrame(() => this.now()), Math.max(0, this.ready - performance.now()));
  }
  now() {
    clearTimeout(this.timer);
    this.timer = 0;
    const start = performance.now();
    this.paint();
    const end = performance.now();
    this.ready = end + Math.max(16, 4 * (end - start));
  }
}

// Answers the last message of a conversation.
async function answer(conversation) {
  const body = requestBody(conversation);
  const message = {role: "assistant", content: "", model: body.model ?? "", finish: "", usage: null, adze: null, error: null};
  const abort = new AbortController();
  conversation.messages.push(message);
  conversation.updated = Date.now();
  running = {conversation, message, abort};
  save(conversation);
  if (conversation === current) {
    showConversation();
  }
  showRunning();
  let changed = false;
  const painter = new Painter(() => {
    if (running?.message !== message || conversation !== current) {
      return;
    }
    const follow = following;
    views.at(-1).show(true);
    if (changed) {
      showCache(message.adze, message.usage);
      changed = false;
    }
    if (follow) {
      toEnd();
    }
  });
  let needsKey = null;
  try {
    for await (const chunk of streamChat(body, abort.signal)) {
      changed = takeChunk(message, chunk) || changed;
      painter.wake();
    }
  } catch (error) {
    if (error.name === "AbortError") {
      message.finish = "stopped";
    } else if (error instanceof ApiError) {
      message.error = {...error, message: error.message};
      needsKey = error.status === 401 ? error : null;
    } else {
      message.error = {message: `This page could not read the answer: ${error.message}`};
    }
  }
  running = null;
  if (isKept(conversation)) {
    save(conversation);
  }
  showRunning();
  if (conversation === current) {
    const follow = following;
    views.at(-1).show();
    showLastCache();
    if (follow) {
      toEnd();
    }
  }
  showList();
  announce(message.error ? `Error: ${message.error.message}` : `Answer: ${message.content}`);
  if (needsKey) {
    askKey(needsKey.message, () => again(message));
  }
}

// True where a request may go out; otherwise shows what keeps it.
function mayAsk() {
  if (running || !settings.hasFault()) {
    return !running;
  }
  setPane("panel", true);
  settings.showFault();
  return false;
}

function send(text) {
  if (!mayAsk()) {
    return false;
  }
  current.messages.push({role: "user", content: text});
  rememberOpen();
  answer(current);
  return true;
}

// Drops the message and what follows it, and asks for an answer to what is left.
function again(message) {
  const index = current.messages.indexOf(message);
  if (index < 0 || !mayAsk()) {
    return;
  }
  const undo = index < current.messages.length - 1 ? undoable("Later messages were dropped", current) : null;
  current.messages.splice(index);
  answer(current);
  undo?.();
}

function edit(message, text) {
  const index = current.messages.indexOf(message);
  if (index < 0 || !mayAsk()) {
    return;
  }
  const undo = index < current.messages.length - 2 ? undoable("Later messages were dropped", current) : null;
  message.content = text;
  views[index].show();
  current.messages.splice(index + 1);
  answer(current);
  undo?.();
  $("prompt").focus();
}

// A question goes with its answer.
function removeMessage(message) {
  if (running?.conversation === current) {
    return;
  }
  const index = current.messages.indexOf(message);
  const isPair = message.role === "user" && current.messages[index + 1]?.role === "assistant";
  const undo = undoable("Deleted", current);
  current.messages.splice(index, isPair ? 2 : 1);
  save(current);
  showConversation();
  undo();
  $("prompt").focus();
}

// --- server --------------------------------------------------------------------------------------

let afterKey = [];

function askKey(reason, retry) {
  afterKey.push(retry);
  const dialog = $("key-dialog");
  $("key-message").textContent = reason;
  if (!dialog.open) {
    $("key").value = "";
    dialog.showModal();
  }
}

$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-dialog").addEventListener("close", () => (afterKey = []));
$("key-form").addEventListener("submit", () => {
  setKey($("key").value.trim());
  const retries = afterKey;
  afterKey = [];
  retries.forEach((retry) => retry());
});

async function loadModels() {
  const select = $("model");
  const models = (await getJson("v1/models")).data.filter((model) => model.adze?.kind !== "encoder");
  select.replaceChildren(...models.map(({id, adze}) =>
    element("option", {value: id, title: adze ? `${adze.layers} layers, context ${adze.context}` : undefined},
      adze?.parent ? `${id} (on ${adze.parent})` : id)));
  const chosen = settings.values.model;
  if (models.some(({id}) => id === chosen)) {
    select.value = chosen;
  }
}

async function loadServer() {
  try {
    await loadModels();
    settings.offerCache(await getJson("v1/cache-options"));
  } catch (error) {
    if (error.status === 401) {
      askKey(error.message, loadServer);
    } else {
      toast(error.message, {label: "Try again", run: loadServer});
    }
  }
}

// --- wiring --------------------------------------------------------------------------------------

function showChip() {
  const store = settings.cacheText("kv_store");
  const policy = settings.cacheText("kv_policy");
  $("cache-chip").textContent = store || policy ? `cache: ${[store, policy].filter(Boolean).join(", ")}` : "cache: the server's default";
}

const settings = new Settings($("settings"), () => showChip());
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("model").addEventListener("change", () => settings.set("model", $("model").value));
$("cache-chip").addEventListener("click", () => {
  setPane("panel", true);
  $("setting-kv_policy").focus();
});

const prompt = $("prompt");

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) {
    stop();
    return;
  }
  const text = prompt.value.trim();
  if (text && send(text)) {
    prompt.value = "";
    fitPrompt();
    showRunning();
  }
});
prompt.addEventListener("input", () => {
  fitPrompt();
  showRunning();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!running) {
      $("composer").requestSubmit();
    }
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("key-dialog").open) {
    return;
  }
  if (!closeOverlay() && running) {
    stop();
    prompt.focus();
  }
});

$("new-conversation").addEventListener("click", startNew);
$("export").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([conversations.exported()], {type: "application/json"}));
  const link = element("a", {href: url, download: "adze-conversations.json"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", async () => {
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
  open(current.id);
});
window.addEventListener("storage", (event) => {
  // Another tab wrote.
  const changed = conversations.reload(event.key);
  if (changed === current.id && !running) {
    open(changed);
  } else if (changed) {
    showList();
  }
});
window.addEventListener("pagehide", () => {
  if (running && isKept(running.conversation)) {
    save(running.conversation);
  }
});

$("examples").replaceChildren(...kExamples.map(([title, text]) => exampleButton(title, text, () => {
  send(text);
  prompt.focus();
})));

setUpLayout();
conversations.load();
showChip();
let opened = "";
try {
  opened = sessionStorage.getItem("adze.open") ?? "";
} catch {
  // Storage is blocked.
}
open(opened);
showRunning();
loadServer();
if (matchMedia("(hover: hover)").matches) {
  prompt.focus();
}
