#!/usr/bin/env python3
"""Writes turns/{config.json, golden.json, logits.bin}: a dialogue in a cache of 48 tokens, by the steps of
SirLLM in float64 (tests/reference/cached_forward.py): what each token's surprisal is, what stays at each
turn, and the logits of each turn's last row. Independent of adze.

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

CONFIG = LLAMA | dict(num_hidden_layers=3)
CAP, SINKS, RECENT, DECAY = 48, 4, 6, 0.7
# The fourth turn is longer than the cache, the first two fit, one has a single token.
TURNS = [20, 13, 17, 70, 1, 30, 9, 25]


def ranks_that_stay(scores, incoming):
    """2.4. `scores` of the cached tokens."""
    cached = len(scores)
    if cached + incoming <= CAP:  # step 1
        return list(range(cached))
    target = CAP - incoming
    slots = max(CAP - SINKS - RECENT - incoming, 0)  # step 2: T = cap - S - R
    # Step 3, of equal ones the newer; and no choice may hang on the last digits.
    order = sorted(range(cached), key=lambda i: (-scores[i], -i))
    if 0 < slots < cached:
        assert scores[order[slots - 1]] - scores[order[slots]] > 1e-5
    stay = set(order[:slots]) | set(range(min(SINKS, cached)))  # steps 3 and 4
    for i in range(cached - 1, 0, -1):  # step 5
        if len(stay) >= target:
            break
        stay.add(i)
    return sorted(stay)  # step 6


def main():
    golden, weights = golden_model(CONFIG)
    model = CachedLlama(CONFIG, weights, ranks=True)  # 2.5
    tokens = tokens_of("sirllm", sum(TURNS), CONFIG["vocab_size"])
    scores, before = [], None  # e; log-probabilities after the newest token
    turns, rows = [], []

    def evict(incoming):
        nonlocal scores
        stay = ranks_that_stay(scores, incoming)
        for layer in range(model.layers):
            model.keep(layer, stay)
        scores = [scores[i] for i in stay]

    first = 0
    for length in TURNS:
        block = CAP - SINKS - 1
        evict(min(length, block))  # 2.3 step 1; a turn that does not fit comes in blocks
        scores = [score * DECAY for score in scores]  # step 2
        after_eviction = model.positions[0].tolist()
        for begin in range(first, first + length, block):
            part = tokens[begin:min(begin + block, first + length)]
            if begin > first:
                evict(len(part))
            logits = model.step(part)  # step 3
            logprobs = logits - logits.max(-1, keepdims=True)
            logprobs -= numpy.log(numpy.exp(logprobs).sum(-1, keepdims=True))
            for place, token in enumerate(part):  # step 4, by 2.2
                known = before if place == 0 else logprobs[place - 1]
                surprisal = math.log(CONFIG["vocab_size"]) if known is None else -known[token]
                scores.append(min(max(surprisal, 0.0), 50.0))
            before = logprobs[-1]
        rows.append(logits[-1])
        turns.append({"tokens": tokens[first:first + length], "after_eviction": after_eviction,
                      "positions": model.positions[0].tolist(), "scores": [round(s, 6) for s in scores]})
        first += length
    assert len(turns[0]["positions"]) == TURNS[0] and max(len(t["positions"]) for t in turns) == CAP
    folder = FOLDER / "turns"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    golden |= {"policy": f"sirllm:tokens={CAP},sinks={SINKS},recent={RECENT},decay={DECAY}", "turns": turns,
               "tokens": tokens, "rows": list(numpy.cumsum(TURNS).tolist())}
    golden["rows"] = [row - 1 for row in golden["rows"]]
    text = json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"').replace('{"tokens"', '\n{"tokens"')
    (folder / "golden.json").write_text(text + "\n")
    (folder / "logits.bin").write_bytes(numpy.array(rows).astype("<f4").tobytes())


if __name__ == "__main__":
    main()
