#!/usr/bin/env python3
"""SmolLM2-135M to a copy whose pairs of layers share keys and values (CLA2), and some training that mends it: the
table in the README of cross-layer attention.

  runs/uptrain_cla2.py [--tokens 49152] [--rate 0.0001] [--threads N] [--seconds S]

Trains on documents of data/text; perplexity by llama.cpp's protocol on held-out documents and, zero-shot, on
WikiText-2: of the parent, of the copy as it is made, and of the copy after training. Every finished measurement is kept in
runs/records/uptrain_cla2.json; training goes on from its newest checkpoint. After --seconds training is stopped,
and a later call goes on.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADZE = os.environ.get("ADZE", ROOT / "build/adze")
TEXT = pathlib.Path(os.environ.get("ADZE_SHARED", ROOT.parent / "shared")) / "data/text"
WORK = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "adze/uptrain_cla2"
RECORD = ROOT / "runs/records/uptrain_cla2.json"
STEP = 1024  # tokens
PARENT = "smollm2-135m"


def adze(*arguments, seconds=None):
    """Last line of stdout as an object; None if it took longer and was stopped."""
    process = subprocess.Popen([str(part) for part in (ADZE, *arguments)], stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)  # what a checkpoint holds is not lost
        process.communicate()
        return None
    if process.returncode != 0:
        sys.exit(f"uptrain_cla2: failed: adze {' '.join(map(str, arguments))}")
    return json.loads(output.splitlines()[-1])


def make(name, *command):
    """What a command writes into --out, once."""
    if not (WORK / name).exists():
        adze(*command, "--out", WORK / f"{name}.part", "--json")
        (WORK / f"{name}.part").rename(WORK / name)
    return WORK / name


def held_out():
    """Text of the held-out documents, as much as is scored."""
    path = WORK / "held-out.txt"
    lines = (TEXT / "docs-valid.jsonl").read_text().splitlines()
    path.write_text("\n\n".join(json.loads(line)["text"] for line in lines)[:60000])
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=49152)
    parser.add_argument("--rate", type=float, default=0.0001)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, help="stop training after that time")
    options = parser.parse_args()
    if not TEXT.exists():
        sys.exit(f"uptrain_cla2: {TEXT} is not here")
    WORK.mkdir(parents=True, exist_ok=True)
    os.environ["ADZE_RUNS"] = str(WORK / "runs.sqlite")
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}

    def keep(name, value):
        known[name] = value
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(known, indent=1) + "\n")

    texts = {"held-out documents": held_out(), "WikiText-2": TEXT / "wikitext2-test.txt"}

    def measure(name, model):
        if name not in known:
            facts = adze("inspect", model, "--json")
            row = {"cache_bytes_per_token": facts["cache_bytes_per_token"]}
            for text, path in texts.items():
                row[text] = adze("perplexity", "--model", model, "--compute", "f32", "--file", path, "--bytes", 60000,
                                 "--protocol", "llama.cpp", "--chunks", 8, "--threads", options.threads, "--json")["perplexity"]
            keep(name, row)
        print(f"| {name} | {known[name]['cache_bytes_per_token']} | " +
              " | ".join(f"{known[name][text]:.2f}" for text in texts) + " |", flush=True)

    print("| model | cache, bytes a token | " + " | ".join(f"perplexity, {text}" for text in texts) + " |\n|---|---|---|---|")
    measure("parent", PARENT)
    copy = make("copy", "convert", "--model", PARENT, "--cla", 2, "--to", "hf", "--type", "f32")
    measure("copy, untrained", copy)
    name = f"copy after {options.tokens} tokens at {options.rate}"
    run = WORK / f"run-{options.tokens}-{options.rate}"
    if name not in known:
        data = make("tokens", "data", "tokenize", "--input", TEXT / "docs-train.jsonl", "--tokenizer", PARENT)
        steps = options.tokens // STEP
        trained = adze("train", "--model", copy, "--data", data, "--batches", "concat:length=512", "--step-tokens", STEP,
                       "--micro-batch-tokens", STEP, "--steps", steps, "--warmup-steps", max(1, steps // 10),
                       "--schedule", "linear", "--learning-rate", options.rate, "--checkpoint-every", 12, "--keep-checkpoints", 1,
                       "--threads", options.threads, "--out", run, "--resume", "--json", seconds=options.seconds)
        if trained is None:
            sys.exit("uptrain_cla2: time is up; call again to go on")
        trained.pop("model")  # a path of this machine
        keep(f"training of {name}", trained)
    measure(name, run / "model")


if __name__ == "__main__":
    main()
