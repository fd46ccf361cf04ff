// The message field and the button beside it, which sends, or stops what runs.
import {$, setIcon} from "./dom.js";

const prompt = $("prompt");
let busy = false;

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
}

function showButton() {
  const send = $("send");
  send.classList.toggle("busy", busy);
  send.setAttribute("aria-label", busy ? "Stop" : "Send");
  send.title = busy ? "Stop (Esc)" : "Send (Enter)";
  setIcon(send, busy ? "stop" : "send");
  send.disabled = !busy && prompt.value.trim() === "";
}

export function setBusy(value) {
  busy = value;
  showButton();
}

// `send(text)` returns whether the text was taken.
export function setUpComposer({send, stop}) {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (busy) {
      stop();
      return;
    }
    const text = prompt.value.trim();
    if (text && send(text)) {
      prompt.value = "";
      fitPrompt();
      showButton();
    }
  });
  prompt.addEventListener("input", () => {
    fitPrompt();
    showButton();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!busy) {
        $("composer").requestSubmit();
      }
    }
  });
  showButton();
}
