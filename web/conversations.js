// Conversations, kept in this browser: one entry each in localStorage, so that an answer rewrites
// only its own.
//
// conversation: {id, title, updated, messages: [message]}; title "" means: from the first message
// message: {role: "user" | "assistant", content, and for answers: model, finish, usage, adze, error}
// adze: the member of that name of the server's answer, and prompt_tokens as first seen

const kPrefix = "adze.conversation.";

export class StorageFull extends Error {}

const conversations = new Map();

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const textOf = (value) => (typeof value === "string" ? value : "");

function figuresOf(adze) {
  const isWhole = isRecord(adze) && (adze.cache === undefined || isRecord(adze.cache)) &&
                  Array.isArray(adze.warnings ?? []);
  return isWhole ? adze : null;
}

// What comes from a file or from storage may be anything; null if it is no conversation.
function readConversation(value) {
  if (!isRecord(value) || !Array.isArray(value.messages)) {
    return null;
  }
  const messages = value.messages
    .filter((message) => isRecord(message) && ["user", "assistant"].includes(message.role) &&
                         typeof message.content === "string")
    .map((message) => ({
      role: message.role,
      content: message.content,
      ...(message.role === "assistant" && {
        model: textOf(message.model),
        finish: textOf(message.finish),
        usage: isRecord(message.usage) ? message.usage : null,
        adze: figuresOf(message.adze),
        error: isRecord(message.error) ? message.error : null,
      }),
    }));
  return {
    id: textOf(value.id) || crypto.randomUUID?.() || String(Math.random()).slice(2),
    title: textOf(value.title),
    updated: Number.isFinite(value.updated) ? value.updated : Date.now(),
    messages,
  };
}

// Null where the text is cut off or not ours.
function parsed(text) {
  try {
    return readConversation(JSON.parse(text));
  } catch {
    return null;
  }
}

export function load() {
  conversations.clear();
  try {
    for (let index = 0; index < localStorage.length; index += 1) {
      const name = localStorage.key(index);
      const conversation = name.startsWith(kPrefix) ? parsed(localStorage.getItem(name)) : null;
      if (conversation) {
        conversations.set(conversation.id, conversation);
      }
    }
  } catch {
    // Storage is blocked: conversations live as long as the page.
  }
}

export function create() {
  return readConversation({messages: []});
}

export const get = (id) => conversations.get(id);

export const newestFirst = () => [...conversations.values()].sort((a, b) => b.updated - a.updated);

export function titleOf(conversation) {
  if (conversation.title) {
    return conversation.title;
  }
  const first = conversation.messages.find((message) => message.role === "user")?.content ?? "";
  const line = first.trim().replace(/\s+/g, " ");
  if (!line) {
    return "New conversation";
  }
  return line.length <= 48 ? line : `${line.slice(0, 48).replace(/\s+\S*$/, "")}…`;
}

// A conversation without a message is not kept.
export function save(conversation) {
  if (conversation.messages.length === 0 && !conversations.has(conversation.id)) {
    return;
  }
  conversations.set(conversation.id, conversation);
  // The picture of an earlier answer is never shown again, and it is most of the bytes.
  const last = conversation.messages.at(-1);
  for (const message of conversation.messages) {
    if (message !== last && message.adze?.cache?.kept) {
      delete message.adze.cache.kept;
    }
  }
  try {
    localStorage.setItem(kPrefix + conversation.id, JSON.stringify(conversation));
  } catch (error) {
    if (error.name === "QuotaExceededError") {
      throw new StorageFull("This browser's storage is full: export and delete some conversations.");
    }
  }
}

export function remove(id) {
  conversations.delete(id);
  try {
    localStorage.removeItem(kPrefix + id);
  } catch {
    // Storage is blocked.
  }
}

export function exported() {
  return JSON.stringify({format: "adze-conversations", version: 1, conversations: newestFirst()}, null, 1);
}

// Adds the conversations of an exported file; those with a known id replace it. Returns how many.
export function importText(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON.");
  }
  if (file?.format !== "adze-conversations" || !Array.isArray(file.conversations)) {
    throw new Error("This file holds no conversations exported from this page.");
  }
  const read = file.conversations.map(readConversation).filter(Boolean);
  read.forEach(save);
  return read.length;
}

// Reads one entry again, after another tab wrote it. Returns its id, "" if the entry is not ours.
export function reload(storageKey) {
  if (!storageKey?.startsWith(kPrefix)) {
    return "";
  }
  const id = storageKey.slice(kPrefix.length);
  const conversation = parsed(localStorage.getItem(storageKey));
  if (conversation) {
    conversations.set(id, conversation);
  } else {
    conversations.delete(id);
  }
  return id;
}
