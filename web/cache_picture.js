// What the cache keeps: rows are layers, columns are positions of the text. Drawn as three paths, so
// that a policy which keeps scattered tokens in eighty layers costs no more than one which keeps all.
import {$, element, svg} from "./dom.js";
import {bytes, count, percent, rate} from "./format.js";

const kHeight = 176;  // of all rows together, about
const kStrip = 5;     // prompt and answer, below the rows

// The picture fills from the left and is rescaled only now and then, not with each token.
function capacityFor(tokens) {
  let capacity = 64;
  while (capacity < tokens) {
    capacity *= 2;
  }
  return capacity * 0.75 >= tokens ? capacity * 0.75 : capacity;
}

const box = (from, to, top, height) => `M${from} ${top}H${to}v${height}H${from}z`;

const keptOf = (ranges) => ranges.reduce((sum, [from, to]) => sum + to - from, 0);

const rangesText = (ranges) =>
  ranges.map(([from, to]) => (to - from === 1 ? `${count(from)}` : `${count(from)}–${count(to - 1)}`)).join(", ") || "none";

function captionOf(cache) {
  const kept = cache.kept.map(keptOf);
  const [least, most] = [Math.min(...kept), Math.max(...kept)];
  const layers = `${cache.kept.length} layers`;
  if (least === cache.tokens) {
    return `All ${count(cache.tokens)} tokens are kept in each of ${layers}.`;
  }
  return least === most
    ? `${count(most)} of ${count(cache.tokens)} tokens are kept in each of ${layers}.`
    : `${count(least)} to ${count(most)} of ${count(cache.tokens)} tokens are kept in each of ${layers}.`;
}

// The strip below the rows: whose tokens these are.
function stripOf(cache, reused, prompt, top) {
  return [
    svg("path", {class: "reused", d: box(0, reused, top, kStrip)}),
    svg("path", {class: "prompt", d: box(reused, prompt, top, kStrip)}),
    svg("path", {class: "answer", d: box(prompt, Math.max(cache.tokens, prompt), top, kStrip)}),
  ];
}

function draw(cache, reused, prompt) {
  const layers = cache.kept.length;
  const row = Math.max(2, Math.min(14, Math.floor(kHeight / layers)));
  const filled = row > 3 ? row - 1 : row;
  const height = row * layers;
  const picture = $("cache-picture");
  const width = capacityFor(Math.max(cache.tokens, 1));
  let track = "";
  let kept = "";
  cache.kept.forEach((ranges, layer) => {
    track += box(0, cache.tokens, layer * row, filled);
    for (const [from, to] of ranges) {
      kept += box(from, to, layer * row, filled);
    }
  });
  const paths = [svg("path", {class: "track", d: track}), svg("path", {class: "kept", d: kept})];
  if (prompt > 0) {
    paths.push(...stripOf(cache, reused, prompt, height + 3));
  }
  picture.setAttribute("viewBox", `0 0 ${width} ${height + 3 + kStrip}`);
  picture.setAttribute("height", height + 3 + kStrip);
  picture.replaceChildren(...paths);
  $("axis-last").textContent = count(width);
  $("axis-layers").textContent = `${layers} layers`;
  const caption = captionOf(cache);
  $("cache-caption").textContent = caption;
  const first = rangesText(cache.kept[0].slice(0, 20));
  picture.setAttribute("aria-label", `Picture of the cache. ${caption} The first layer keeps positions ${first}.`);
}

function fillTable(cache) {
  $("layer-rows").replaceChildren(...cache.kept.map((ranges, layer) =>
    element("tr", {}, element("th", {scope: "row"}, String(layer)), element("td", {}, count(keptOf(ranges))),
      element("td", {}, rangesText(ranges.slice(0, 50)) + (ranges.length > 50 ? " …" : "")))));
}

let shown = null;

const isRange = (range) => Array.isArray(range) && range.length === 2 && range.every(Number.isFinite);

// A stored or imported answer may hold anything.
function isPicture(cache) {
  return Array.isArray(cache?.kept) && cache.kept.length > 0 && Number.isFinite(cache.tokens) &&
         cache.kept.every((ranges) => Array.isArray(ranges) && ranges.every(isRange));
}

function showMemory(cache) {
  const share = cache.full_bytes > 0 ? cache.bytes / cache.full_bytes : 0;
  $("memory-text").textContent = `${bytes(cache.bytes)} of ${bytes(cache.full_bytes)} in full`;
  $("memory-share").textContent = percent(share);
  $("memory-fill").style.width = `${Math.min(100, 100 * share)}%`;
}

function showNumber(id, value, unit) {
  $(id).textContent = value;
  $(`${id}-unit`).textContent = unit;
}

function showSpeed(id, tokensPerSecond) {
  showNumber(id, tokensPerSecond ? rate(tokensPerSecond) : "–", tokensPerSecond ? "tokens/s" : "");
}

// `adze` and `usage` of an answer, or of what there is of it so far; without them, the empty state.
export function showCache(adze, usage) {
  const cache = adze?.cache;
  shown = isPicture(cache) ? cache : null;
  $("by-layer").hidden = !shown;
  const reused = usage?.prompt_tokens_details?.cached_tokens;
  const prompt = Number(usage?.prompt_tokens ?? adze?.prompt_tokens) || 0;
  $("legend").toggleAttribute("data-off", !(shown && prompt > 0));
  if (shown) {
    draw(shown, reused ?? 0, prompt);
    if ($("by-layer").open) {
      fillTable(shown);
    }
  } else {
    $("cache-picture").replaceChildren();
    $("cache-picture").setAttribute("aria-label", "No picture of the cache yet");
    $("cache-caption").textContent =
      "Each row is a layer, each column a token of the text; what the cache keeps is filled in.";
    $("axis-last").textContent = "";
    $("axis-layers").textContent = "layers";
  }
  $("cache-kind").textContent = cache ? `${cache.store}, ${cache.policy}` : "";
  if (cache) {
    showMemory(cache);
  } else {
    $("memory-text").textContent = "No text yet";
    $("memory-share").textContent = "";
    $("memory-fill").style.width = "0";
  }
  const timings = adze?.timings;
  showSpeed("prefill-speed", timings?.prefill_tokens_per_second);
  showSpeed("decode-speed", timings?.decode_tokens_per_second);
  const known = reused !== undefined && prompt > 0;
  showNumber("prefix-hits", known ? percent(reused / prompt) : "–", known ? `${count(reused)} of ${count(prompt)}` : "");
}

$("by-layer").addEventListener("toggle", () => {
  if ($("by-layer").open && shown) {
    fillTable(shown);
  }
});
