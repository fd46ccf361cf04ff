// One message on the page.
import {copyText, element, icon, iconButton} from "./dom.js";
import {bytes, count, rate} from "./format.js";
import {MarkdownView} from "./markdown.js";

function errorBox(error, again) {
  const details = [
    error.field && `field ${error.field}`,
    error.code,
    error.status && `HTTP ${error.status}`,
    error.retryAfter && `try again in ${error.retryAfter} s`,
  ].filter(Boolean).join(" · ");
  const retry = element("button", {type: "button", class: "plain", onclick: again}, "Try again");
  return element("div", {class: "error"}, element("p", {class: "error-text"}, error.message),
    details ? element("p", {class: "error-details"}, details) : null, retry);
}

const kEnds = {length: "ended by the limit of tokens", stopped: "stopped by you"};

function factsOf(message) {
  const timings = message.adze?.timings;
  return [
    message.model,
    message.usage && `${count(message.usage.completion_tokens)} tokens`,
    timings?.decode_tokens_per_second && `${rate(timings.decode_tokens_per_second)} tokens/s`,
    message.adze?.cache && `cache ${bytes(message.adze.cache.bytes)}`,
    message.adze?.seed !== undefined && `seed ${message.adze.seed}`,
    kEnds[message.finish],
  ].filter(Boolean).join(" · ");
}

// `actions`: {again, edit(text), remove}
export class MessageView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    const user = message.role === "user";
    this.body = element("div", {class: "body"});
    this.facts = element("span", {class: "facts"});
    this.error = element("div", {class: "error-place"});
    this.warnings = element("ul", {class: "warnings"});
    const copy = iconButton("copy", "Copy", () => copyText(this.message.content, copy));
    this.tools = element("div", {class: "tools"}, copy,
      user ? iconButton("edit", "Edit and send again", () => this.startEdit())
           : iconButton("again", "Answer again", () => actions.again()),
      iconButton("delete", user ? "Delete with its answer" : "Delete", () => actions.remove()), this.facts);
    this.node = element("article", {class: `message ${message.role}`, "aria-label": user ? "You" : "Answer"},
      this.body, this.error, this.warnings, this.tools);
    if (!user) {
      this.markdown = new MarkdownView(this.body);
    }
    this.show();
  }

  // Everything that may have changed; `live` while the answer is coming in.
  show(live = false) {
    const {message} = this;
    this.node.classList.toggle("live", live);
    this.node.setAttribute("aria-busy", String(live));
    if (message.role === "user") {
      this.body.textContent = message.content;
      return;
    }
    this.markdown.update(message.content);
    this.body.hidden = !live && message.content === "";
    const waiting = live && message.content === "";
    if (waiting !== Boolean(this.waiting)) {
      this.waiting?.remove();
      this.waiting = waiting ? element("p", {class: "waiting"}, "Reading the text", element("span", {class: "dots"})) : null;
      if (this.waiting) {
        this.body.append(this.waiting);
      }
    }
    if (live) {
      return;
    }
    this.facts.textContent = factsOf(message);
    this.error.replaceChildren(...(message.error ? [errorBox(message.error, () => this.actions.again())] : []));
    this.warnings.replaceChildren(...(message.adze?.warnings ?? []).map((text) => element("li", {}, String(text))));
  }

  startEdit() {
    const area = element("textarea", {class: "edit-text", "aria-label": "Edit the message", rows: 3});
    area.value = this.message.content;
    const finish = (text) => {
      form.replaceWith(this.body);
      this.tools.hidden = false;
      if (text !== null && text !== "") {
        this.actions.edit(text);
      } else {
        this.tools.querySelector("button:nth-child(2)").focus();
      }
    };
    const form = element("form", {class: "edit"}, area,
      element("div", {class: "edit-row"},
        element("button", {type: "button", class: "plain", onclick: () => finish(null)}, "Cancel"),
        element("button", {type: "submit", class: "primary"}, "Send")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      finish(area.value.trim());
    });
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        finish(null);
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.body.replaceWith(form);
    this.tools.hidden = true;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

export function exampleButton(title, text, onclick) {
  return element("li", {}, element("button", {type: "button", onclick},
    element("strong", {}, title), element("span", {}, text), icon("send")));
}
