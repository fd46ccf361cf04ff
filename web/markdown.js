// Model output is untrusted. Raw HTML in it stays text, images are only named, and what marked makes
// of the rest passes DOMPurify with a short list of elements. Globals: marked, DOMPurify.
import {copyText, element, iconButton} from "./dom.js";

const kTags = [
  "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input",
  "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
];
const kAttributes = ["align", "checked", "class", "disabled", "href", "start", "title", "type"];
const kLinks = /^(?:https?:|mailto:)/i;

const escapes = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"};
const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => escapes[character]);

const parser = window.marked;
const purifier = window.DOMPurify;

// Debian 12's DOMPurify (2.4.1+dfsg+~2.4.0-2+deb12u1) reads a variable that its patch for nesting
// depth put out of scope, and every call throws. This answers "not too deep" for the body; the check
// of each element, which is the one that counts, has its own variable.
window.shadowNode ??= {__depth: 0};

parser.use({
  gfm: true,
  breaks: false,
  headerIds: false,
  mangle: false,
  // Tokenizers that match nothing: a tag is text like any other.
  tokenizer: {html() {}, tag() {}},
  renderer: {
    // Loading an image tells its host who reads the answer: a link leaves that to the reader.
    image(href, title, text) {
      const name = escapeHtml(text || "image");
      return kLinks.test(href ?? "") ? `<a href="${escapeHtml(href)}">${name}</a>` : name;
    },
  },
});

purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    if (!kLinks.test(node.getAttribute("href") ?? "")) {
      node.removeAttribute("href");
    }
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  if (node.tagName === "INPUT") {  // the boxes of a task list
    node.setAttribute("type", "checkbox");
    node.setAttribute("disabled", "");
    node.setAttribute("aria-label", node.hasAttribute("checked") ? "done" : "to do");
  }
  const language = /^language-([\w+#.-]{1,30})$/.exec(node.getAttribute("class") ?? "");
  if (language && node.tagName === "CODE") {
    node.setAttribute("data-language", language[1]);
  }
  node.removeAttribute("class");
});

function sanitise(html) {
  return purifier.sanitize(html, {
    ALLOWED_TAGS: kTags,
    ALLOWED_ATTR: kAttributes,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: kLinks,
    RETURN_DOM_FRAGMENT: true,
  });
}

function furnish(fragment) {
  for (const pre of fragment.querySelectorAll("pre")) {
    const language = pre.querySelector("code")?.dataset.language ?? "";
    const frame = element("div", {class: "code"});
    const copy = iconButton("copy", "Copy code", () => copyText(pre.textContent, copy));
    pre.replaceWith(frame);
    pre.tabIndex = 0;
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
    frame.append(element("div", {class: "code-head"}, element("span", {}, language || "text"), copy), pre);
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = element("div", {class: "table-scroll", tabindex: "0", role: "group",
                                  "aria-label": "Table"});
    for (const heading of table.querySelectorAll("th")) {
      if (heading.textContent.trim() === "") {
        heading.replaceWith(element("td"));  // a heading of nothing is read aloud as one
      }
    }
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

// Shows a growing text. Blocks that are complete stay as they are, so that nothing flickers, a
// selection survives, and a long answer costs no more than its last block.
export class MarkdownView {
  constructor(node) {
    this.node = node;
    this.blocks = [];  // {raw, nodes}
  }

  update(text) {
    // marked sees a code block that is still open only where its last line ends.
    const tokens = parser.lexer(text.endsWith("\n") ? text : `${text}\n`);
    let same = 0;
    while (same < this.blocks.length && same < tokens.length &&
           this.blocks[same].raw === tokens[same].raw) {
      same += 1;
    }
    for (const block of this.blocks.splice(same)) {
      block.nodes.forEach((node) => node.remove());
    }
    for (const token of tokens.slice(same)) {
      const fragment = furnish(sanitise(parser.parser([token])));
      const nodes = [...fragment.childNodes];
      this.node.append(...nodes);
      this.blocks.push({raw: token.raw, nodes});
    }
  }
}
