#!/usr/bin/env python3
"""Cache settings of adze serve beside one another: a batch of long prompts, by turns.

  bench/batch_cache.py [--rounds N] [--threads N] [--texts N] [--prompt-tokens N] [--answer-tokens N]
                       [--settings "POLICY [STORE]" ...]

All texts are asked for at once: tokens a second is (prompt + answer tokens) / time until the last answer.
Every pass has a server of its own, warmed by one request. Ratios are to the first setting, of the medians.
The table goes to standard error, a record to bench/records, one JSON line to standard output.
"""

import argparse
import json
import os
import statistics
import sys
import time

from measuring import circumstances, default_model, keep_record, say
from serve import Served, prompts_of_a_round, text_tokens


class Setting(Served):
    """adze serve with one cache setting, "POLICY" or "POLICY STORE"."""

    def __init__(self, setting, model, options):
        policy, _, store = setting.partition(" ")
        self.cache = {"kv_policy": policy, "kv_store": store or "f16"}
        super().__init__("adze", model, None, options)
        # A policy that looks at the whole of a prompt reads it in one step.
        self.command += ["--step-rows", max(256, options.prompt_tokens), "--cache-gib", 4]

    def endless(self):
        return {**super().endless(), **self.cache}


def measure(model, ids, options):
    samples = {setting: [] for setting in options.settings}
    start = time.monotonic()
    for number in range(options.rounds):
        turn = number % len(options.settings)
        for setting in options.settings[turn:] + options.settings[:turn]:
            with Setting(setting, model, options) as served:
                served.complete(ids[-64:], 4)
                prompts = prompts_of_a_round(ids, number, options.prompt_tokens, options)
                samples[setting].append(served.tokens_per_second(prompts, options.answer_tokens))
        passed = time.monotonic() - start
        say(f"round {number + 1} of {options.rounds}, "
            f"{passed / (number + 1) * (options.rounds - number - 1):.0f} s left")
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--texts", type=int, default=16, dest="clients")
    parser.add_argument("--prompt-tokens", type=int, default=2048)
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--settings", nargs="+", default=["full", "pyramid:keep=0.46,recent-ratio=0.1"])
    options = parser.parse_args()
    options.requests = 1
    model = default_model()
    ids = text_tokens(model, options.clients * options.prompt_tokens + options.rounds)
    samples = measure(model, ids, options)
    medians = {setting: statistics.median(values) for setting, values in samples.items()}
    first = medians[options.settings[0]]
    say(f"\n{options.clients} texts of {options.prompt_tokens} + {options.answer_tokens} tokens, {options.threads} "
        "threads; tokens/s, median (least to most)\n\n| setting | tokens/s | ratio |\n|---|---|---|")
    for setting, values in samples.items():
        ratio = medians[setting] / first
        say(f"| {setting} | {medians[setting]:.1f} ({min(values):.1f} to {max(values):.1f}) "
            f"| {ratio:.2f} {'█' * round(8 * ratio)} |")
    result = {setting: round(value / first, 3) for setting, value in medians.items()}
    keep_record("batch-cache", {**circumstances(model, options.threads), "texts": options.clients,
                                "prompt_tokens": options.prompt_tokens, "answer_tokens": options.answer_tokens,
                                "samples": samples, "ratios": result})
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
