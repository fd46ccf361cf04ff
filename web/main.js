// Where the page starts: its parts, what the server offers, and how they are joined.
import {getJson} from "./api.js";
import * as chat from "./chat.js";
import {setUpComposer} from "./composer.js";
import {setUpList} from "./conversation_list.js";
import {$, element, toast} from "./dom.js";
import {askKey, isAskingKey, setUpKeyDialog} from "./key_dialog.js";
import {closeOverlay, setPane, setUpLayout} from "./layout.js";
import {exampleButton} from "./message_view.js";
import {setUpScrolling} from "./scrolling.js";
import {Settings} from "./settings.js";

const kExamples = [
  ["Explain something", "Why is the sky blue? Explain it to a ten-year-old in four sentences."],
  ["Write something", "Write a short poem about an old boat that learns to fly."],
  ["Make a table", "Compare tea and coffee in a small table: origin, taste, caffeine."],
];

const settings = new Settings($("settings"), showChip);
const prompt = $("prompt");

// --- server --------------------------------------------------------------------------------------

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

// --- joints --------------------------------------------------------------------------------------

function showChip() {
  const chosen = [settings.cacheText("kv_store"), settings.cacheText("kv_policy")].filter(Boolean);
  $("cache-chip").textContent = `cache: ${chosen.join(", ") || "the server's default"}`;
}

function setUpSettings() {
  $("settings").addEventListener("submit", (event) => event.preventDefault());
  $("model").addEventListener("change", () => settings.set("model", $("model").value));
  $("cache-chip").addEventListener("click", () => {
    setPane("panel", true);
    $("setting-kv_policy").focus();
  });
  showChip();
}

function setUpExamples() {
  $("examples").replaceChildren(...kExamples.map(([title, text]) => exampleButton(title, text, () => {
    chat.send(text);
    prompt.focus();
  })));
}

// Escape closes what lies over the chat, else it stops the answer.
function setUpEscape() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || isAskingKey()) {
      return;
    }
    if (!closeOverlay() && chat.isRunning()) {
      chat.stop();
      prompt.focus();
    }
  });
}

setUpLayout();
setUpScrolling();
setUpKeyDialog();
setUpSettings();
setUpExamples();
setUpComposer({send: chat.send, stop: chat.stop});
setUpList({
  open: (id) => {
    chat.open(id);
    closeOverlay();
  },
  remove: chat.removeConversation,
  renamed: chat.renameConversation,
  imported: chat.reopen,
});
$("new-conversation").addEventListener("click", chat.startNew);
setUpEscape();
chat.setUpChat(settings);
loadServer();
if (matchMedia("(hover: hover)").matches) {
  prompt.focus();
}
