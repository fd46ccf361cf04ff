// The open conversation: its messages on the page, and what may be done with them.
import {emptyAnswer, receive, requestBody} from "./answering.js";
import {showCache} from "./cache_picture.js";
import {setBusy} from "./composer.js";
import {showList} from "./conversation_list.js";
import * as conversations from "./conversations.js";
import {$, announce, toast} from "./dom.js";
import {askKey} from "./key_dialog.js";
import {closeOverlay, setPane} from "./layout.js";
import {MessageView} from "./message_view.js";
import {Painter} from "./painter.js";
import {isFollowing, toEnd} from "./scrolling.js";

let settings = null;
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

function rememberedOpen() {
  try {
    return sessionStorage.getItem("adze.open") ?? "";
  } catch {
    return "";
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
  showTitles();
  showLastCache();
  toEnd();
}

function showLastCache() {
  const last = current.messages.findLast((message) => message.adze);
  showCache(last?.adze, last?.usage);
}

function showTitles() {
  const title = conversations.titleOf(current);
  $("title").textContent = title;
  document.title = current.messages.length > 0 ? `${title} – adze` : "adze";
  showList(current.id);
}

// --- conversations -------------------------------------------------------------------------------

export function open(id) {
  current = conversations.get(id) ?? conversations.create();
  rememberOpen();
  showConversation();
}

export const reopen = () => open(current.id);

export function startNew() {
  open("");
  closeOverlay();
  $("prompt").focus();
}

export function removeConversation(conversation) {
  const undo = undoable(`Deleted “${conversations.titleOf(conversation)}”`, conversation);
  if (running?.conversation === conversation) {
    stop();
  }
  conversations.remove(conversation.id);
  if (conversation.id === current.id) {
    startNew();
  } else {
    showTitles();
  }
  undo();
}

// `title` null: the name stays.
export function renameConversation(conversation, title) {
  if (title !== null) {
    conversation.title = title;
    save(conversation);
  }
  showTitles();
}

// --- asking --------------------------------------------------------------------------------------

export const isRunning = () => running !== null;

export function stop() {
  running?.abort.abort();
}

// Draws the answer as it comes in. `picture`: the cache has changed since it was last drawn.
function livePainter(conversation, message) {
  const state = {picture: false};
  state.painter = new Painter(() => {
    if (running?.message !== message || conversation !== current) {
      return;
    }
    const follow = isFollowing();
    views.at(-1).show(true);
    if (state.picture) {
      showCache(message.adze, message.usage);
      state.picture = false;
    }
    if (follow) {
      toEnd();
    }
  });
  return (picture) => {
    state.picture ||= picture;
    state.painter.wake();
  };
}

function showEnd(conversation, message) {
  if (conversation === current) {
    const follow = isFollowing();
    views.at(-1).show();
    showLastCache();
    if (follow) {
      toEnd();
    }
  }
  showTitles();
  announce(message.error ? `Error: ${message.error.message}` : `Answer: ${message.content}`);
  if (message.error?.status === 401) {
    askKey(message.error.message, () => again(message));
  }
}

// Answers the last message of a conversation.
async function answer(conversation) {
  const body = requestBody(conversation, settings, $("model").value);
  const message = emptyAnswer(body.model);
  const abort = new AbortController();
  conversation.messages.push(message);
  conversation.updated = Date.now();
  running = {conversation, message, abort};
  save(conversation);
  setBusy(true);
  if (conversation === current) {
    showConversation();
  }
  await receive(message, body, abort.signal, livePainter(conversation, message));
  running = null;
  setBusy(false);
  if (isKept(conversation)) {
    save(conversation);
  }
  showEnd(conversation, message);
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

export function send(text) {
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

// --- other tabs ----------------------------------------------------------------------------------

function takeFromOtherTab(event) {
  const changed = conversations.reload(event.key);
  if (changed === current.id && !running) {
    open(changed);
  } else if (changed) {
    showTitles();
  }
}

export function setUpChat(given) {
  settings = given;
  window.addEventListener("storage", takeFromOtherTab);
  window.addEventListener("pagehide", () => {
    if (running && isKept(running.conversation)) {
      save(running.conversation);
    }
  });
  conversations.load();
  open(rememberedOpen());
}
