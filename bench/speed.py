#!/usr/bin/env python3
"""How fast adze is on this machine, beside what the machine could do.

  bench/speed.py [--model FILE] [--threads N]

Medians of five runs at several depths, in both arithmetics. A table goes to standard output, a
record to bench/records.
"""

import argparse
import json
import os
import pathlib

from measuring import ADZE, circumstances, default_model, keep_record, run, say

TESTS = [("prefill 512", ["--prompt-tokens", 512, "--decode-tokens", 0], "prefill"),
         ("decode at 0", ["--prompt-tokens", 0, "--decode-tokens", 32], "decode"),
         ("decode at 2048", ["--prompt-tokens", 0, "--decode-tokens", 32, "--depth", 2048], "decode"),
         ("decode at 7000", ["--prompt-tokens", 0, "--decode-tokens", 32, "--depth", 7000], "decode")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    model = options.model or default_model()
    record = circumstances(model, options.threads)
    peaks = record["peaks"]
    print(f"{model.name}, {options.threads} threads, {peaks['isa']}: reads "
          f"{peaks['read_bytes_per_second'] / 1e9:.1f} GB/s, {peaks['flops_per_second'] / 1e9:.0f} GFLOP/s in f32\n")
    print("| test | products | tokens/s, median (least to most) | share of the limit |\n|---|---|---|---|", flush=True)
    record["runs"] = []
    for name, flags, kind in TESTS:
        for compute in ("f32", "int8"):
            row = json.loads(run([ADZE, "bench", "--model", model, "--threads", options.threads,
                                  "--compute", compute, "--json", *flags]))
            runs = row[f"{kind}_runs"]
            record["runs"].append({"test": name, "compute": compute, **row})
            print(f"| {name} | {compute} | {row[f'{kind}_tokens_per_second']:.1f} "
                  f"({min(runs):.1f} to {max(runs):.1f}) | {row[f'{kind}_share']:.0%} |", flush=True)
    keep_record("speed", record)


if __name__ == "__main__":
    main()
