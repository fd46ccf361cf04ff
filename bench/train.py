#!/usr/bin/env python3
"""Training speed of adze beside PyTorch, by turns, on a Llama of 15.7 M parameters in f32; and of dataset
decomposition beside glued documents of 8,192 tokens. The last line of stdout is a JSON object of ratios:
adze's tokens/s over PyTorch's (eager and torch.compile, for sequences of 512, 2,048 and 8,192; medians of
steps), the largest of the three ratios of peak memory (adze over eager), and decomposition's tokens/s over
concat's. A record is kept in bench/records."""
import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import struct
import sys
import tempfile

from measuring import ADZE, ROOT, circumstances, keep_record, run, say

SHAPES = ((16, 512), (4, 2048), (1, 8192))
PEER = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "adze/peers/python/bin/python"
MODEL = {"hidden-size": 384, "layers": 8, "heads": 6, "kv-heads": 2, "intermediate-size": 1024,
         "context-length": 8192, "tied-output": True}
WARM = 1  # steps that are not counted


def write_data(folder, lengths):
    """Token data of random ids in documents of these lengths."""
    tokenizer = folder.parent / "tokenizer"
    if not tokenizer.exists():
        text = folder.parent / "text.txt"
        text.write_text("".join(chr(random.Random(1).randint(33, 90)) for _ in range(100)))
        run([ADZE, "data", "train-tokenizer", "--input", text, "--vocab-size", 257, "--out", tokenizer])
    shutil.copytree(tokenizer, folder)
    draw = random.Random(2)
    tokens = struct.pack(f"<{sum(lengths)}H", *(draw.randrange(8192) for _ in range(sum(lengths))))
    starts = struct.pack(f"<{len(lengths)}I", *lengths)
    (folder / "shard.tokens").write_bytes(tokens)
    (folder / "shard.lengths").write_bytes(starts)
    sha = lambda content: hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({
        "format": "adze tokens 1", "vocab_size": 8192, "token_bytes": 2, "end_of_text": 0,
        "tokenizer_sha256": sha((folder / "tokenizer.json").read_bytes()),
        "shards": [{"name": "shard", "documents": len(lengths), "tokens": sum(lengths),
                    "tokens_sha256": sha(tokens), "lengths_sha256": sha(starts)}]}))


def adze(work, data, batches, steps, threads, step_tokens=8192):
    out = work / "run"
    shutil.rmtree(out, ignore_errors=True)
    config = work / "config.json"
    config.write_text(json.dumps({**MODEL, "data": str(data), "batches": batches, "steps": steps,
                                  "step-tokens": step_tokens, "micro-batch-tokens": step_tokens,
                                  "checkpoint-every": 1000000, "threads": threads}))
    summary = json.loads(run([ADZE, "train", "--config", config, "--out", out, "--json"]).splitlines()[-1])
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    shutil.copy(out / "model/config.json", work / "model-config.json")
    return [row["seconds"] for row in rows], [row["targets"] for row in rows], summary["peak_memory_bytes"]


def torch(work, batch, length, steps, threads, compiled=False):
    flags = ["--compile"] if compiled else []
    result = json.loads(run([PEER, ROOT / "bench/train_peer.py", "--config", work / "model-config.json", "--batch",
                             batch, "--length", length, "--steps", steps, "--threads", threads, *flags]).splitlines()[-1])
    return result["seconds"], result["peak_memory_bytes"]


def middle(values):
    values = sorted(values)
    return values[len(values) // 2] if len(values) % 2 else (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2


def flops_of_step(length):
    """Of a step's 8,192 rows, forward and twice that backward: products, and scores that are seen."""
    hidden, layers, wide = MODEL["hidden-size"], MODEL["layers"], MODEL["intermediate-size"]
    kv = hidden * MODEL["kv-heads"] // MODEL["heads"]
    weights = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * wide) + 8192 * hidden
    return 3 * 8192 * (2 * weights + layers * 4 * hidden * (length + 1) / 2)


def against_torch(work, options, record):
    """Ratios by name, and a line of the table a shape."""
    ratios, memory = {}, []
    for batch, length in options.shapes:
        data = work / f"data-{length}"
        write_data(data, [8193] * 20)
        ours, eager, compiled = [], [], []
        for turn in range(options.rounds):
            seconds, _, our_peak = adze(work, data, f"concat:length={length}", options.steps + WARM, options.threads)
            ours += seconds[WARM:]
            seconds, peak = torch(work, batch, length, options.steps + WARM, options.threads)
            eager += seconds[WARM:]
            if turn == 0 and not options.no_compile:
                seconds, _ = torch(work, batch, length, options.steps + 1 + WARM, options.threads, compiled=True)
                compiled = seconds[WARM + 1:]
        ratios[f"eager_{length}"] = middle(eager) / middle(ours)
        if compiled:
            ratios[f"compile_{length}"] = middle(compiled) / middle(ours)
        memory.append(our_peak / peak)
        speed = lambda seconds: f"{8192 / middle(seconds):6.0f}" if seconds else "     -"
        share = flops_of_step(length) / middle(ours) / record["peaks"]["flops_per_second"]
        say(f"{batch:3} x {length:5}   adze {speed(ours)} tokens/s ({share:.0%} of the peak)   eager {speed(eager)}"
            f"   compile {speed(compiled)}   memory {our_peak / 1e9:.2f} of {peak / 1e9:.2f} GB")
        record["shapes"].append({"batch": batch, "length": length, "share_of_peak": share, "adze_seconds": ours,
                                 "eager_seconds": eager, "compile_seconds": compiled,
                                 "adze_peak_memory_bytes": our_peak, "eager_peak_memory_bytes": peak})
    ratios["memory"] = max(memory)
    return ratios


def decomposition(work, options):
    """Documents of a long-tailed law, fresh targets a second: natural mixture beside glued chunks."""
    draw = random.Random(3)
    data = work / "data-documents"
    write_data(data, [min(40000, int(draw.lognormvariate(6.2, 1.1)) + 20) for _ in range(2500)])
    speeds = {}
    for name, batches in (("concat", "concat:length=8192"),
                          ("buckets", "dataset-decomposition:shortest=64,longest=8192,curriculum=uniform,cycles=1")):
        # Enough steps that every bucket has its share.
        seconds, targets, _ = adze(work, data, batches, 4 if name == "concat" else 16, options.threads)
        speeds[name] = sum(targets[WARM:]) / sum(seconds[WARM:])
        say(f"{name:8} {speeds[name]:.0f} tokens/s")
    return speeds["buckets"] / speeds["concat"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=2, help="counted steps a turn")
    parser.add_argument("--rounds", type=int, default=1, help="turns a shape")
    parser.add_argument("--length", type=int, help="this shape alone")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--no-decomposition", action="store_true")
    options = parser.parse_args()
    options.shapes = [shape for shape in SHAPES if options.length in (None, shape[1])]
    if not PEER.exists():
        sys.exit("bench: no PyTorch to measure against; run make peers")
    with tempfile.TemporaryDirectory(prefix="adze-bench-train-") as folder:
        work = pathlib.Path(folder)
        os.environ["ADZE_RUNS"] = str(work / "runs.sqlite")
        record = circumstances(pathlib.Path("llama-15_7m"), options.threads) | {"shapes": []}
        ratios = against_torch(work, options, record)
        if not options.no_decomposition:
            ratios["decomposition_tokens_per_second"] = decomposition(work, options)
    record["ratios"] = {name: round(value, 3) for name, value in ratios.items()}
    if options.length is None and not options.no_compile and not options.no_decomposition:
        keep_record("train", record)
    print(json.dumps(record["ratios"]))


if __name__ == "__main__":
    main()
