#!/usr/bin/env python3
"""The quality tables of the training methods' READMEs, on the documents of data/text with a BPE of 8,192 that
adze learns from them, and models of at most 2 M parameters.

  runs/training_tables.py [--tables decomposition fadam sharing] [--tokens 409600] [--seeds 1 2 3] [--seconds S]

One `adze train` a cell; each finished one is kept in runs/records/training_tables.json, and a cell that is there is
not trained again. One that was interrupted goes on from its newest checkpoint. With the defaults some 25 minutes on
two cores; after --seconds it stops, and a later call goes on. A table is printed when all its cells are there; --partial
prints what is there and trains nothing. Losses are nats a token of held-out documents, each by itself; +- is the
half width of a 95 % interval over seeds (Student's t).

decomposition: power-of-two buckets against glued chunks of 8,192, at equal fresh tokens and at equal time, where chunks
               are trained anew for as many steps as that time allows, so that their rate has fallen as well
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
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADZE = os.environ.get("ADZE", ROOT / "build/adze")
TEXT = pathlib.Path(os.environ.get("ADZE_SHARED", ROOT.parent / "shared")) / "data/text"
WORK = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "adze/training_tables"
RECORD = ROOT / "runs/records/training_tables.json"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantiles by number of seeds

SMALL = {"hidden-size": 64, "layers": 4, "heads": 2, "kv-heads": 1, "intermediate-size": 192}  # 0.7 M parameters
BASE = {"step-tokens": 8192, "micro-batch-tokens": 8192, "learning-rate": 0.004, "checkpoint-every": 25,
        "keep-checkpoints": 1, "validation-tokens": 30000}
BUCKETS = "dataset-decomposition:shortest=64,longest=8192,tail=overlap,"
DECOMPOSITION = {"concat": "concat:length=8192", "concat, masked": "concat:length=8192,mask=true",
                 "uniform": BUCKETS + "curriculum=uniform", "grow-linear": BUCKETS + "curriculum=grow-linear,cycles=4",
                 "grow-p2": BUCKETS + "curriculum=grow-p2,cycles=4"}
OPTIMIZERS = {"adamw": ["adamw"], "fadam": [f"fadam:weight-decay={decay}" for decay in (0, 0.001)]}
RATES = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
# Keys and values of six layers: heads, kv heads, layers that share them.
SHARING = {"MHA": (2, 2, 1), "MQA": (2, 1, 1), "MHA-CLA2": (2, 2, 2), "MQA, heads of 16": (4, 1, 1), "MQA-CLA2": (2, 1, 2),
           "MQA-CLA3": (2, 1, 3)}
EVALUATIONS = 8


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
        """Record of a run. Raises TimeoutError where it is not there and time is up."""
        config = BASE | SMALL | changes | {"seed": seed, "data": str(WORK / "train"), "validation-data": str(WORK / "valid")}
        config["steps"] = max(1, tokens // config["step-tokens"])
        config["warmup-steps"] = max(1, config["steps"] // 20)
        config["evaluate-every"] = max(1, config["steps"] // EVALUATIONS)
        config["threads"] = self.options.threads
        named = {name: value for name, value in config.items() if name not in ("data", "validation-data", "threads")}
        key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]
        if key in self.known:
            return self.known[key]
        if self.options.partial or self.options.seconds and time.monotonic() - self.start > self.options.seconds:
            raise TimeoutError
        out = WORK / key
        (WORK / f"{key}.json").write_text(json.dumps(config))
        adze("train", "--config", WORK / f"{key}.json", "--out", out, "--resume", "--json")
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [[row["targets"], row["sequences"], round(row["seconds"], 4)] for row in rows if "loss" in row]
        curve = [[row["step"], row["validation_loss"]] for row in rows if "validation_loss" in row]
        self.known[key] = {"label": label, "seed": seed, "options": named, "curve": curve, "loss": curve[-1][1],
                           "steps": steps}  # targets, sequences, seconds
        RECORD.parent.mkdir(exist_ok=True)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(cell)}" for name, cell in self.known.items())
        part = RECORD.with_suffix(".part")
        part.write_text(f"{{\n{lines}\n}}\n")
        part.rename(RECORD)
        shutil.rmtree(out)
        say(f"{time.monotonic() - self.start:6.0f} s  {label}, seed {seed}: {curve[-1][1]:.4f}, "
            f"{speed([self.known[key]]):.0f} tokens/s")
        return self.known[key]


def speed(runs):
    """Targets a second. A step's time is the median of those with as many sequences, or where they are few of all: other
    work on the machine slows some steps and not all."""
    steps = [step for run in runs for step in run["steps"]]
    alike = {}
    for _, sequences, seconds in steps:
        alike.setdefault(sequences, []).append(seconds)
    whole = statistics.median(seconds for _, _, seconds in steps)
    total = sum(statistics.median(alike[sequences]) if len(alike[sequences]) > 2 else whole for _, sequences, _ in steps)
    return sum(targets for targets, _, _ in steps) / total


def loss_at(run, tokens):
    """Validation loss after so many targets, between the evaluations around them."""
    before = None
    for step, loss in run["curve"]:
        place = sum(targets for targets, _, _ in run["steps"][:step])
        if place >= tokens:
            if before is None:
                return loss
            share = (tokens - before[0]) / (place - before[0])
            return before[1] + share * (loss - before[1])
        before = place, loss
    return run["curve"][-1][1]


def spread(values):
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:.4f}"
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return f"{mean:.4f} +- {STUDENT[len(values)] * deviation / math.sqrt(len(values)):.4f}"


def decomposition(cells, options):
    change = {"context-length": 8192}

    def arm(name, tokens=options.tokens):
        return [cells.get(name, change | {"batches": DECOMPOSITION[name]}, tokens, seed) for seed in options.seeds]

    base = arm("concat")
    print("| batches | tokens/s | loss | minus concat, equal tokens | minus concat, equal time |\n|---|---|---|---|---|")
    for name in DECOMPOSITION:
        runs = arm(name)
        tokens = min(sum(targets for targets, _, _ in run["steps"]) for run in runs + base)  # fresh ones: without overlaps
        less = spread([loss_at(run, tokens) - loss_at(other, tokens) for run, other in zip(runs, base)])
        timed = "-"
        if name == "uniform":
            shorter = arm("concat", int(options.tokens * speed(base) / speed(runs)))
            timed = spread([run["loss"] - other["loss"] for run, other in zip(runs, shorter)])
        print(f"| {name} | {speed(runs):.0f} | {spread([run['loss'] for run in runs])} | {less} | {timed} |", flush=True)


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
        change = {"layers": 6, "heads": heads, "kv-heads": kv_heads, "context-length": 1024,
                  "batches": "concat:length=512", "step-tokens": 4096, "micro-batch-tokens": 4096}
        if factor > 1:
            change["kv-source"] = [layer // factor * factor for layer in range(6)]
        runs = [cells.get(name, change, options.tokens, seed) for seed in options.seeds]
        cached = 6 // factor * 2 * kv_heads * 64 // heads
        print(f"| {name} | {cached} | {spread([run['loss'] for run in runs])} |", flush=True)


TABLES = {"decomposition": decomposition, "fadam": fadam, "sharing": sharing}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--tokens", type=int, default=409_600, help="rows a cell")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, help="begin no cell after that time")
    parser.add_argument("--partial", action="store_true", help="print what is there, train nothing")
    options = parser.parse_args()
    if not TEXT.exists():
        sys.exit(f"training_tables: {TEXT} is not here")
    os.environ["ADZE_RUNS"] = str(WORK / "runs.sqlite")
    prepare()
    cells = Cells(options)
    late = False
    for name in options.tables:
        print(f"\n{name}, {options.tokens:,} rows a cell, {len(options.seeds)} seeds\n", flush=True)
        try:
            TABLES[name](cells, options)
        except TimeoutError:
            late = True
            print("(not complete)")
    if late and not options.partial:
        sys.exit("training_tables: time is up; call again to go on")


if __name__ == "__main__":
    main()
