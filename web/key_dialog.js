// Asks for the API key of a server that wants one, and then does again what the server refused.
import {setKey} from "./api.js";
import {$} from "./dom.js";

let refused = [];

export const isAskingKey = () => $("key-dialog").open;

export function askKey(reason, retry) {
  refused.push(retry);
  $("key-message").textContent = reason;
  if (!isAskingKey()) {
    $("key").value = "";
    $("key-dialog").showModal();
  }
}

export function setUpKeyDialog() {
  $("key-cancel").addEventListener("click", () => $("key-dialog").close());
  $("key-dialog").addEventListener("close", () => (refused = []));
  $("key-form").addEventListener("submit", () => {
    setKey($("key").value.trim());
    const retries = refused;
    refused = [];
    retries.forEach((retry) => retry());
  });
}
