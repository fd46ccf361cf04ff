// What a request carries beside the messages: a form built from a list of fields, kept in this
// browser. An empty field is left out of the request, and the server decides.
import {element} from "./dom.js";

const kKey = "adze.settings";

const kFields = [
  {name: "temperature", label: "Temperature", min: 0, max: 100, step: "0.1", usual: "1",
   hint: "0 always takes the likeliest token, higher is freer. 0\u00a0to\u00a0100."},
  {name: "top_p", label: "Top p", min: 0, max: 1, step: "0.05", usual: "1",
   hint: "Draw from the likeliest tokens that reach this share together. 0\u00a0to\u00a01."},
  {name: "top_k", label: "Top k", min: 0, step: "1", whole: true, usual: "0",
   hint: "Draw from this many of the likeliest tokens; 0 is all."},
  {name: "min_p", label: "Min p", min: 0, max: 1, step: "0.01", usual: "0",
   hint: "Leave out what is less likely than this share of the likeliest. 0\u00a0to\u00a01."},
  {name: "max_tokens", label: "Longest answer", min: 1, step: "1", whole: true, usual: "no limit",
   hint: "In tokens; empty: as far as the context goes."},
  {name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: "1", whole: true,
   usual: "random", hint: "The same seed gives the same answer again."},
  {name: "repetition_penalty", label: "Repetition penalty", min: 0, max: 100, above: true,
   step: "0.05", usual: "1", hint: "Above 1, tokens seen before get less likely. Above 0, to 100."},
  {name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: "0.1", usual: "0",
   hint: "Taken off for each time a token was said. −2\u00a0to\u00a02."},
  {name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: "0.1", usual: "0",
   hint: "Taken off once a token was said at all. −2\u00a0to\u00a02."},
];
const kGuesses = {name: "guesses", label: "Guesses", min: 0, max: 15, step: "1", whole: true,
  usual: "server", hint: "Tokens guessed ahead and checked in one step; the text stays the same. 0\u00a0to\u00a015."};
const kMostStops = 16;

const rangeOf = ({min, max, above}) =>
  max === undefined ? `at least ${min}` : `${above ? `above ${min} and at most` : `between ${min} and`} ${max}`;

function faultOf(field, text) {
  const value = Number(text);
  if (text === "") {
    return "";
  }
  if (!Number.isFinite(value) || value < field.min || (field.above && value <= field.min) ||
      value > (field.max ?? Infinity)) {
    return `${field.label} has to be ${rangeOf(field)}.`;
  }
  return field.whole && !Number.isInteger(value) ? `${field.label} has to be a whole number.` : "";
}

// A line of the stop strings may spell a line break as \n and a tab as \t.
const stopStrings = (text) =>
  text.split("\n").filter((line) => line !== "")
    .map((line) => line.replace(/\\([nt\\])/g, (_, letter) => ({n: "\n", t: "\t", "\\": "\\"})[letter]));

export class Settings {
  constructor(form, onchange) {
    this.form = form;
    this.onchange = onchange;
    this.values = {cache: {}, ...this.read()};  // name -> text; cache: {kv_policy: {name, options}}
    this.options = {kv_policy: [], kv_store: []};
    this.defaults = {};
    this.build();
  }

  read() {
    try {
      const values = JSON.parse(localStorage.getItem(kKey));
      return typeof values === "object" && values !== null ? values : {};
    } catch {
      return {};
    }
  }

  write() {
    try {
      localStorage.setItem(kKey, JSON.stringify(this.values));
    } catch {
      // Storage is blocked or full: the choice holds until the page is closed.
    }
    this.onchange();
  }

  set(name, text) {
    this.values[name] = text;
    this.write();
  }

  build() {
    const group = (title, open, ...children) =>
      element("details", {class: "group", open}, element("summary", {}, title), ...children);
    this.cacheBox = element("div", {class: "cache-options"});
    const reset = element("button", {type: "button", class: "text-button reset"}, "Back to the server's settings");
    reset.addEventListener("click", () => {
      const {model, system} = this.values;
      this.values = {cache: {}, model, system};
      this.build();
      this.write();
    });
    this.form.replaceChildren(
      group("How the cache is kept", true, this.cacheBox, this.number(kGuesses)),
      group("System prompt", false, this.text("system", "System prompt",
        "What the model is told before the first message.", 5)),
      group("Sampling", false, ...kFields.map((field) => this.number(field)),
        this.text("stop", "Stop strings", `One a line, at most ${kMostStops}; the answer ends before the first of them. \\n is a line break.`, 2)),
      reset);
    this.buildCache();
  }

  number(field) {
    const id = `setting-${field.name}`;
    const input = element("input", {id, type: "number", inputmode: "decimal", min: field.min, max: field.max,
                                    step: field.step, placeholder: field.usual,
                                    "aria-describedby": `${id}-hint ${id}-fault`});
    const fault = element("p", {class: "fault", id: `${id}-fault`});
    const show = () => {
      // A number field that cannot be read is empty: the browser knows better.
      const message = input.validity.badInput ? `${field.label} has to be a number.` : faultOf(field, input.value);
      fault.textContent = message;
      input.setAttribute("aria-invalid", message ? "true" : "false");
    };
    input.value = this.values[field.name] ?? "";
    input.addEventListener("input", () => {
      show();
      this.set(field.name, input.value);
    });
    show();
    return element("div", {class: "field"},
      element("label", {for: id}, field.label), input,
      element("p", {class: "hint", id: `${id}-hint`}, field.hint), fault);
  }

  text(name, label, hint, rows) {
    const id = `setting-${name}`;
    const area = element("textarea", {id, rows, "aria-describedby": `${id}-hint`, spellcheck: name === "system" ? "true" : "false"});
    area.value = this.values[name] ?? "";
    area.addEventListener("input", () => this.set(name, area.value));
    return element("div", {class: "field wide"},
      element("label", {for: id, class: name === "system" ? "visually-hidden" : undefined}, label), area,
      element("p", {class: "hint", id: `${id}-hint`}, hint));
  }

  // From GET /v1/cache-options.
  offerCache({policies = [], stores = [], defaults = {}, lab = null}) {
    document.getElementById("lab-link").hidden = !lab;
    this.options = {kv_policy: policies, kv_store: stores};
    this.defaults = defaults;
    this.buildCache();
    this.onchange();
  }

  buildCache() {
    this.cacheBox.replaceChildren(
      this.choice("kv_policy", "Which tokens stay"), this.choice("kv_store", "How they are stored"));
  }

  choice(name, label) {
    const chosen = (this.values.cache[name] ??= {name: "", options: {}});
    const id = `setting-${name}`;
    const select = element("select", {id, "aria-describedby": `${id}-hint`},
      element("option", {value: ""}, ["the server's default", this.defaults[name]].filter(Boolean).join(": ")),
      ...this.options[name].map((option) => element("option", {value: option.name}, option.name)));
    select.value = chosen.name;
    if (select.selectedIndex < 0) {  // a choice that this server does not know
      select.append(element("option", {value: chosen.name}, chosen.name));
      select.value = chosen.name;
    }
    const entry = this.options[name].find((option) => option.name === chosen.name);
    select.addEventListener("change", () => {
      this.values.cache[name] = {name: select.value, options: {}};
      this.write();
      this.buildCache();
      document.getElementById(id).focus();
    });
    const fields = (entry?.keys ?? []).map((option) => {
      const input = element("input", {id: `${id}-${option.name}`, value: chosen.options[option.name],
                                      placeholder: String(option.default ?? ""), autocomplete: "off",
                                      "aria-describedby": `${id}-${option.name}-hint`});
      input.addEventListener("input", () => {
        chosen.options[option.name] = input.value.trim();
        this.write();
      });
      return element("div", {class: "field option"},
        element("label", {for: input.id}, option.name), input,
        element("p", {class: "hint", id: `${input.id}-hint`}, option.legal ?? ""));
    });
    return element("div", {class: "choice"},
      element("div", {class: "field wide"}, element("label", {for: id}, label), select,
        element("p", {class: "hint", id: `${id}-hint`}, entry?.summary ?? "")),
      ...fields);
  }

  cacheText(name) {
    const chosen = this.values.cache[name];
    if (!chosen?.name) {
      return "";
    }
    const options = Object.entries(chosen.options).filter(([, value]) => value !== "");
    return chosen.name + options.map(([key, value], index) => `${index ? "," : ":"}${key}=${value}`).join("");
  }

  firstFault() {
    return this.form.querySelector('[aria-invalid="true"]');
  }

  hasFault() {
    return this.firstFault() !== null;
  }

  showFault() {
    const field = this.firstFault();
    field.closest("details").open = true;
    field.focus();
  }

  body() {
    const body = {};
    for (const {name} of [...kFields, kGuesses]) {
      const text = this.values[name] ?? "";
      if (text !== "") {
        body[name] = Number(text);
      }
    }
    const stop = stopStrings(this.values.stop ?? "");
    if (stop.length > 0) {
      body.stop = stop;
    }
    for (const name of ["kv_policy", "kv_store"]) {
      const text = this.cacheText(name);
      if (text) {
        body[name] = text;
      }
    }
    return body;
  }
}
