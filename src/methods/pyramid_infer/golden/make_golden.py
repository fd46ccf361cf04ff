#!/usr/bin/env python3
"""Writes CASE/{config.json, golden.json, logits.bin}: a prompt that narrows from layer to layer and an
answer that is compressed in blocks, by the steps of PyramidInfer in float64
(tests/reference/cached_forward.py): which tokens each layer holds when the prompt is in and when the
answer is, and the logits of some rows. Independent of adze. lengths.json: the lengths alone, for many
prompts and settings, and the decays that a share of the cache is solved with.

    python3 make_golden.py      needs: numpy
"""

import json
import math
import pathlib
import sys

import numpy

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[3] / "tests" / "reference"))

from cached_forward import LLAMA, CachedLlama, golden_model, tokens_of  # noqa: E402

PROMPT, ANSWER, SINKS = 160, 90, 4
# The release's settings (section 3 of the sheet), and adze's own.
RELEASED = dict(rho=0.2, least=0, most=1 << 20, start=0, falls=True, p=0.9, interval=1, context=64,
                clamps=False, weight=1.2, block=16, compress=0.9, answer_decay=0.1)
PRESETS = {
    "llama2-7b": RELEASED, "llama2-13b": RELEASED | dict(p=0.8, interval=2), "llama2-70b": RELEASED | dict(interval=3),
    "adze": RELEASED | dict(rho=0.05, least=8, most=64, start=0.25, falls=False, clamps=True, answer_decay=None),
}
CASES = {  # name: the flag, the preset, what it changes, the share to solve for
    "released": ("pyramid:preset=llama2-7b,keep=0,recent-ratio=0.1", "llama2-7b", dict(rho=0.1), None),
    "ours": ("pyramid:keep=0.5", "adze", {}, 0.5),
}


def recent(s, tokens):
    """R of 2.1."""
    return min(max(int(math.floor(s["rho"] * tokens + 1e-9)), s["least"]), s["most"], max(tokens - 1, 0))


def ratio(s, layer, layers):
    """r_l of 2.3."""
    start = int(s["start"] * layers)
    if layer < start or layer % s["interval"]:
        return 1.0
    cosine = (math.cos(math.pi * (layer - start) / (layers - start)) + 1) / 2
    return (1 - s["p"]) * cosine + s["p"] if s["falls"] else s["p"]


def context_after(s, prompt, layer, layers, context):
    """2.3 step 2, the condition and d."""
    r = ratio(s, layer, layers)
    least = min(s["context"], prompt - 1 - recent(s, prompt))
    if context <= least or r >= 1:
        return context
    k = math.floor(context * r)
    if s["clamps"]:
        return max(k, least, 0)
    return context if k <= least else k


def lengths(s, prompt, layers):
    window = 1 + recent(s, prompt)
    context, found = prompt - window, []
    for layer in range(layers):
        found.append(context + window)
        context = context_after(s, prompt, layer, layers, context)
    return [*found, context + window]


def share(s, prompt, layers):
    return sum(lengths(s, prompt, layers)[:-1]) / (prompt * layers)


def solved(s, wanted, prompt, layers):
    """2.4: the largest p that keeps no more than that; the share rises with p."""
    low, high = 0.0, 1.0
    if share(s | dict(p=1.0), prompt, layers) <= wanted:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share(s | dict(p=middle), prompt, layers) <= wanted else (low, middle)
    return low


def best(scores, count):
    """Places of the `count` largest, of equal ones the earlier; no choice hangs on the last digits."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if 0 < count < len(scores) and math.isfinite(scores[order[count - 1]]):
        margin = 1 - scores[order[count]] / scores[order[count - 1]]
        best.margin = min(best.margin, margin)
    return sorted(order[:count])


best.margin = 1.0


def run(model, s, tokens):
    """(tokens of each layer after the prompt, after the answer, logits of rows from the prompt's last on)"""
    layers, window = model.layers, 1 + recent(s, PROMPT)
    rings = [None] * layers  # 2.5: head-mean rows of the last W queries [W, cached]

    def after_layer(layer, probabilities):
        mean = probabilities.mean(0)  # step 2 a
        rows, cached = mean.shape
        rings[layer] = mean[-window:]
        context = cached - window
        kept = context_after(s, PROMPT, layer, layers, context)
        if kept == context or layer == layers - 1:
            return None
        weights = numpy.linspace(1, s["weight"], window)  # step 2 b
        scores = (weights[:, None] * mean[-window:, :context]).mean(0)
        scores[:SINKS] = numpy.inf  # step 2 c
        return [*best(scores, kept), *range(context, cached)]  # steps 2 e and f

    rows = [model.step(tokens[:PROMPT], after_layer)[-1]]
    after_prompt = [p.tolist() for p in model.positions]
    assert [len(p) for p in after_prompt] == lengths(s, PROMPT, layers)[:-1]
    anchors = [len(p) for p in after_prompt]
    blocks = 0
    for token in tokens[PROMPT:]:
        newest = {}
        rows.append(model.step([token], lambda layer, p, n=newest: n.update({layer: p.mean(0)}))[-1])
        now_recent = recent(s, len(model.positions[0]))
        for layer in range(layers):
            row = newest[layer]  # 2.5 step 1
            old = rings[layer]
            old = numpy.concatenate([old, numpy.zeros((len(old), row.shape[1] - old.shape[1]))], axis=1)
            ring = numpy.concatenate([old, row])[-(1 + now_recent):]
            cached = row.shape[1]
            if cached - now_recent - anchors[layer] >= s["block"]:  # 2.5 step 2
                end = cached - (1 + now_recent)
                begin = end - s["block"]
                weights = numpy.linspace(1, s["weight"], len(ring)) if len(ring) > 1 else numpy.ones(1)
                scores = (weights[:, None] * ring[:, begin:end]).mean(0)
                if s["answer_decay"] is None:  # ours: the layer's share of a prompt of 2,048 tokens
                    part = lengths(s | dict(p=s["long_p"]), 2048, layers)[layer] / 2048
                else:
                    cosine = (math.cos(math.pi * layer / layers) + 1) / 2
                    part = s["compress"] * ((1 - s["answer_decay"]) * cosine + s["answer_decay"])
                kept = max(1, math.floor(s["block"] * part + 1e-9))
                columns = [*range(begin), *(begin + i for i in best(scores, kept)), *range(end, cached)]
                model.keep(layer, columns)
                ring = ring[:, columns]
                anchors[layer] = len(columns) - now_recent
                blocks += 1
            rings[layer] = ring
    assert blocks >= 2 * layers, blocks
    return after_prompt, [p.tolist() for p in model.positions], rows


def main():
    table = []
    for name, s in PRESETS.items():
        for prompt in (1, 2, 64, 65, 81, 200, 777, 2048):
            for layers in (2, 6, 32, 40):
                table.append({"preset": name, "prompt": prompt, "lengths": lengths(s, prompt, layers)})
    solutions = [{"preset": name, "share": wanted, "prompt": prompt, "layers": layers,
                  "decay": solved(PRESETS[name], wanted, prompt, layers)}
                 for name in PRESETS for wanted in (0.5, 0.6, 0.8) for prompt, layers in ((512, 24), (2048, 32))]
    text = json.dumps({"lengths": table, "solutions": solutions}, separators=(",", ":"))
    (FOLDER / "lengths.json").write_text(text.replace('{"preset"', '\n{"preset"') + "\n")
    for name, (flag, preset, changes, wanted) in CASES.items():
        s = PRESETS[preset] | changes
        if wanted is not None:
            layers = LLAMA["num_hidden_layers"]
            s = s | dict(p=solved(s, wanted, PROMPT, layers), long_p=solved(s, wanted, 2048, layers))
        golden, weights = golden_model(LLAMA)
        tokens = tokens_of("pyramid " + name, PROMPT + ANSWER, LLAMA["vocab_size"])
        after_prompt, after_answer, rows = run(CachedLlama(LLAMA, weights), s, tokens)
        print(f"{name}: closest choice {best.margin:.1g} apart; layers hold {[len(p) for p in after_answer]}")
        assert best.margin > 2e-5
        chosen = [0, 1, 40, 60, ANSWER]  # rows from the prompt's last on
        golden |= {"policy": flag, "prompt": PROMPT, "tokens": tokens, "after_prompt": after_prompt,
                   "after_answer": after_answer, "rows": [PROMPT - 1 + row for row in chosen]}
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(LLAMA, indent=2) + "\n")
        text = json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"')
        (folder / "golden.json").write_text(text + "\n")
        (folder / "logits.bin").write_bytes(numpy.array([rows[row] for row in chosen]).astype("<f4").tobytes())


if __name__ == "__main__":
    main()
