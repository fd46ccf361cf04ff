#!/usr/bin/env python3
"""Decoding at a depth: cache settings of adze beside its own full f16 cache and llama.cpp's cache types, by turns.

  bench/cache_decode.py [--depth N] [--rounds N] [--threads N] [--settings "POLICY STORE" ...] [--peer-types TYPE ...]

Every pass fills the cache first: on two cores one to three minutes of a pass of the peer. The peer decodes with
flash attention on and off where a type allows both, and counts with its best. Ratios are to adze's full f16 cache
and to that best, of the medians. The table goes to standard error, a record to bench/records, one JSON line to
standard output.
"""

import argparse
import json
import os
import statistics
import time

from measuring import ADZE, circumstances, default_model, keep_record, run, say
from peers import DECODE_TOKENS, LlamaCpp, built_peers

FULL = "full f16"


def adze_run(model, setting, options):
    policy, _, store = setting.partition(" ")
    output = run([ADZE, "bench", "--model", model, "--threads", options.threads, "--prompt-tokens", 0, "--decode-tokens",
                  DECODE_TOKENS, "--depth", options.depth, "--repetitions", 1, "--kv-policy", policy, "--kv-store", store,
                  "--json"])
    row = json.loads(output.splitlines()[-1])
    return row["decode_tokens_per_second"], row["cache_bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=7000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--settings", nargs="+", default=["snapkv:keep=0.5 deco:bits=3", "full deco:bits=4"])
    parser.add_argument("--peer-types", nargs="*", default=["f16", "q8_0", "q4_0"])
    options = parser.parse_args()
    peer = LlamaCpp(built_peers() / "llama.cpp")
    model = default_model()
    settings = [FULL, *(setting for setting in options.settings if setting != FULL)]
    # llama.cpp keeps values in another type than f16 with flash attention only.
    peers = [(kind, flash) for kind in options.peer_types for flash in (("on", "off") if kind == "f16" else ("on",))]
    speeds, size = {}, {}
    start = time.monotonic()
    for number in range(options.rounds):
        for setting in settings:
            speed, size[setting] = adze_run(model, setting, options)
            speeds.setdefault(f"adze {setting}", []).append(speed)
        for kind, flash in peers:
            speed = peer.at_depth(model, options.depth, {"flash_attention": flash, "micro_batch": 512}, options.threads, kind)
            speeds.setdefault(f"llama.cpp {kind}, flash {flash}", []).append(speed["decode"])
        passed = time.monotonic() - start
        say(f"round {number + 1} of {options.rounds}, {passed / (number + 1) * (options.rounds - number - 1):.0f} s left")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    own = medians[f"adze {FULL}"]
    best = max((median for name, median in medians.items() if name.startswith("llama.cpp")), default=None)
    say(f"\n{model.name}, {options.threads} threads, {options.depth} tokens in the cache; tokens/s, median (least to most)\n")
    say("| setting | tokens/s | cache of full f16 | to full f16 | to llama.cpp's best |\n|---|---|---|---|---|")
    for name, values in speeds.items():
        median, setting = medians[name], name.removeprefix("adze ")
        share = f"{100 * size[setting] / size[FULL]:.1f} %" if setting in size else ""
        to_peer = f"{median / best:.2f} {'█' * round(4 * median / best)}" if best else ""
        say(f"| {name} | {median:.1f} ({min(values):.1f} to {max(values):.1f}) | {share} | {median / own:.2f} | {to_peer} |")
    result = {setting: {"to_own": round(medians[f"adze {setting}"] / own, 3),
                        "to_llama_cpp": round(medians[f"adze {setting}"] / best, 3) if best else None,
                        "bytes": round(size[setting] / size[FULL], 4)} for setting in settings}
    keep_record("cache-decode", {**circumstances(model, options.threads), "depth": options.depth, "samples": speeds,
                                 "cache_bytes": size, "ratios": result})
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
