#!/usr/bin/env python3
"""The quality tables of the training methods' READMEs, on the documents of data/text with a BPE of 8,192 that
adze learns from them, and models of at most 2 M parameters.

  runs/training_tables.py [--tables decomposition fadam sharing] [--tokens 2000000] [--seeds 1 2 3] [--seconds S]

One `adze train` a cell; each finished one is kept in runs/records/training_tables.json, and a cell that is there is
not trained again. One that was interrupted goes on from its newest checkpoint. Losses are nats a token of held-out
documents, each by itself; +- is the half width of a 95 % interval over seeds (Student's t).

decomposition: power-of-two buckets against glued chunks of 8,192, at equal fresh tokens and at equal time
fadam:         AdamW against FAdam, each at the best of its rates (the first seed, a quarter of the tokens, chooses)
sharing:       layers that share keys and values against fewer or narrower heads of keys and values
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADZE = os.environ.get("ADZE", ROOT / "build/adze")
TEXT = pathlib.Path(os.environ.get("ADZE_SHARED", ROOT.parent / "shared")) / "data/text"
WORK = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "adze/training_tables"
RECORD = ROOT / "runs/records/training_tables.json"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantiles by number of seeds

SMALL = {"hidden-size": 128, "layers": 4, "heads": 4, "kv-heads": 2, "intermediate-size": 352}
BASE = {"step-tokens": 8192, "micro-batch-tokens": 8192, "learning-rate": 0.004, "checkpoint-every": 50,
        "keep-checkpoints": 1, "validation-tokens": 100000}
BUCKETS = "dataset-decomposition:shortest=64,longest=8192,tail=overlap,"
DECOMPOSITION = {"concat": "concat:length=8192", "concat, masked": "concat:length=8192,mask=true", "pack": "pack:length=8192",
                 "uniform": BUCKETS + "curriculum=uniform", "grow-linear": BUCKETS + "curriculum=grow-linear,cycles=4",
                 "grow-p2": BUCKETS + "curriculum=grow-p2,cycles=4", "grow-p100": BUCKETS + "curriculum=grow-p100,cycles=4"}
OPTIMIZERS = {"adamw": ["adamw"], "fadam": [f"fadam:weight-decay={decay}" for decay in (0, 0.001, 0.01)]}
RATES = (0.001, 0.002, 0.004, 0.008)
# Keys and values of six layers, numbers a token: heads, kv heads, whose they are.
SHARING = {"MHA": (4, 4, 1), "GQA2": (4, 2, 1), "MHA-CLA2": (4, 4, 2), "MQA": (4, 1, 1), "GQA2-CLA2": (4, 2, 2),
           "MQA, heads of 16": (8, 1, 1), "MQA-CLA2": (4, 1, 2), "MQA-CLA3": (4, 1, 3)}


def say(text):
    print(text, file=sys.stderr, flush=True)


def adze(*arguments):
    done = subprocess.run([str(part) for part in (ADZE, *arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"training_tables: failed: adze {' '.join(map(str, arguments))}")
    return done.stdout


def prepare():
    """Token data of training and held-out documents."""
    if (WORK / "valid/manifest.json").exists():
        return
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    adze("data", "train-tokenizer", "--input", TEXT / "docs-train.jsonl", "--vocab-size", 8192, "--out", WORK / "tokenizer")
    for name, source in (("train", "docs-train.jsonl"), ("valid.part", "docs-valid.jsonl")):
        adze("data", "tokenize", "--input", TEXT / source, "--tokenizer", WORK / "tokenizer", "--out", WORK / name)
    (WORK / "valid.part").rename(WORK / "valid")


class Cells:
    """Runs by their options; measured once."""

    def __init__(self, options):
        self.options = options
        self.start = time.monotonic()
        self.known = json.loads(RECORD.read_text()) if RECORD.exists() else {}

    def get(self, label, changes, tokens, seed):
        config = BASE | SMALL | changes | {"seed": seed, "data": str(WORK / "train"), "validation-data": str(WORK / "valid")}
        config["steps"] = max(1, tokens // config["step-tokens"])
        config["warmup-steps"] = max(1, config["steps"] // 20)
        config["evaluate-every"] = max(1, config["steps"] // 20)
        config["threads"] = self.options.threads
        named = {name: value for name, value in config.items() if name not in ("data", "validation-data", "threads")}
        key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]
        if key in self.known:
            return self.known[key]
        if self.options.seconds and time.monotonic() - self.start > self.options.seconds:
            raise TimeoutError
        out = WORK / key
        (WORK / f"{key}.json").write_text(json.dumps(config))
        adze("train", "--config", WORK / f"{key}.json", "--out", out, "--resume", "--json")
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        seconds, curve, targets = 0, [], 0
        for row in rows:
            seconds += row.get("seconds", 0)
            targets += row.get("targets", 0)
            if "validation_loss" in row:
                curve.append([targets, seconds, row["validation_loss"]])
        self.known[key] = {"label": label, "seed": seed, "options": named, "curve": curve,
                           "loss": curve[-1][2], "tokens_per_second": targets / seconds}
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(self.known, indent=1) + "\n")
        shutil.rmtree(out)
        say(f"{time.monotonic() - self.start:6.0f} s  {label}, seed {seed}: {curve[-1][2]:.4f}, "
            f"{targets / seconds:.0f} tokens/s")
        return self.known[key]


def at(curve, axis, place):
    """Validation loss where tokens (0) or seconds (1) reach `place`, between the evaluations around it."""
    before = None
    for point in curve:
        if point[axis] >= place:
            if before is None:
                return point[2]
            share = (place - before[axis]) / (point[axis] - before[axis])
            return before[2] + share * (point[2] - before[2])
        before = point
    return curve[-1][2]


def spread(values):
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.4f}"
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return f"{mean:.4f} +- {STUDENT[len(values)] * deviation / math.sqrt(len(values)):.4f}"


def decomposition(cells, options):
    print("| batches | tokens/s | at equal tokens | at equal time | minus concat, equal tokens | minus concat, equal time |")
    print("|---|---|---|---|---|---|")
    change = {"context-length": 8192}
    base = [cells.get("concat", change | {"batches": DECOMPOSITION["concat"]}, options.tokens, seed) for seed in options.seeds]
    for name, batches in DECOMPOSITION.items():
        runs = [cells.get(name, change | {"batches": batches}, options.tokens, seed) for seed in options.seeds]
        # Equal: where the one that is first out of tokens, or of time, ends.
        tokens = min(run["curve"][-1][0] for run in runs + base)
        seconds = min(sum(run["curve"][-1][1] for run in group) / len(group) for group in (runs, base))
        pairs = [[at(run["curve"], axis, place) for run in group]
                 for axis, place in ((0, tokens), (1, seconds)) for group in (runs, base)]
        less = [spread([a - b for a, b in zip(pairs[i], pairs[i + 1])]) for i in (0, 2)]
        speed = sum(run["tokens_per_second"] for run in runs) / len(runs)
        print(f"| {name} | {speed:.0f} | {spread(pairs[0])} | {spread(pairs[2])} | {less[0]} | {less[1]} |", flush=True)


def fadam(cells, options):
    change = {"batches": "concat:length=512", "step-tokens": 4096, "micro-batch-tokens": 4096, "context-length": 1024}
    best = {}
    for name, choices in OPTIMIZERS.items():
        trials = [(cells.get(f"{optimizer} {rate}", change | {"optimizer": optimizer, "learning-rate": rate},
                             options.tokens // 4, options.seeds[0])["loss"], optimizer, rate)
                  for optimizer in choices for rate in RATES]
        best[name] = min(trials)[1:]
    print("| optimiser | rate | loss | minus adamw, seed by seed |\n|---|---|---|---|")
    losses = {}
    for name, (optimizer, rate) in best.items():
        runs = [cells.get(optimizer, change | {"optimizer": optimizer, "learning-rate": rate}, options.tokens, seed)
                for seed in options.seeds]
        losses[name] = [run["loss"] for run in runs]
        less = spread([a - b for a, b in zip(losses[name], losses["adamw"])])
        print(f"| {optimizer} | {rate} | {spread(losses[name])} | {less} |", flush=True)


def sharing(cells, options):
    print("| layout | cached numbers a token | loss |\n|---|---|---|")
    for name, (heads, kv_heads, factor) in SHARING.items():
        change = {"layers": 6, "intermediate-size": 256, "heads": heads, "kv-heads": kv_heads, "context-length": 1024,
                  "batches": "concat:length=512", "step-tokens": 4096, "micro-batch-tokens": 4096}
        if factor > 1:
            change["kv-source"] = [layer // factor * factor for layer in range(6)]
        runs = [cells.get(name, change, options.tokens, seed) for seed in options.seeds]
        cached = 6 // factor * 2 * kv_heads * 128 // heads
        print(f"| {name} | {cached} | {spread([run['loss'] for run in runs])} |", flush=True)


TABLES = {"decomposition": decomposition, "fadam": fadam, "sharing": sharing}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--tokens", type=int, default=2_000_000, help="rows a cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, help="begin no cell after that time")
    options = parser.parse_args()
    if not TEXT.exists():
        sys.exit(f"training_tables: {TEXT} is not here")
    os.environ["ADZE_RUNS"] = str(WORK / "runs.sqlite")
    prepare()
    cells = Cells(options)
    for name in options.tables:
        print(f"\n{name}, {options.tokens:,} rows a cell, {len(options.seeds)} seeds\n", flush=True)
        try:
            TABLES[name](cells, options)
        except TimeoutError:
            sys.exit("training_tables: time is up; call again to go on")


if __name__ == "__main__":
    main()
