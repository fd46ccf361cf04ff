#!/usr/bin/env python3
"""adze beside llama.cpp: the same file, prompts and threads, run by turns.

  bench/peers.py [--model FILE]... [--threads N] [--rounds N] [--tests NAME,...]
  bench/peers.py --calibrate

Ratios are adze / llama.cpp of the medians: over 1 is in adze's favour. A test at a depth fills the
cache and decodes in one pass, on both sides (llama-batched-bench -npp D -ntg 32 -npl 1). The peer
runs with the settings that are best on this machine, by test: flash attention on or off,
micro-batch 256 or 512. They are measured once and kept beside it; --calibrate measures them again.
The table goes to standard error, a record to bench/records, one JSON line to standard output.
"""

import argparse
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from measuring import ADZE, ROOT, circumstances, default_model, keep_record, processor, run, say

DECODE_TOKENS = 32
SETTINGS = [{"flash_attention": flash, "micro_batch": batch} for flash in ("off", "on") for batch in (256, 512)]


class Test:
    """Prefill of `tokens` tokens, or decoding after that many; both are measured from one pass."""

    def __init__(self, kind, tokens):
        self.kind, self.tokens, self.name = kind, tokens, f"{kind}_{tokens}"


TESTS = [Test("prefill", 512), Test("decode", 0), Test("prefill", 2048), Test("decode", 2048),
         Test("prefill", 7000), Test("decode", 7000)]


class LlamaCpp:
    def __init__(self, programs):
        self.programs = programs

    @staticmethod
    def common(model, settings, threads):
        return ["-m", model, "-t", threads, "-ub", settings["micro_batch"], "-b", 2048,
                "-fa", settings["flash_attention"], "-ngl", 0]

    def speeds(self, model, test, settings, threads):
        """Tokens a second by kind, from one pass with the test's tokens."""
        if test.tokens in (0, 512):  # as llama-bench has it: one warm-up
            amount = ["-p", 0, "-n", DECODE_TOKENS] if test.kind == "decode" else ["-p", test.tokens, "-n", 0]
            rows = json.loads(run([self.programs / "llama-bench", *self.common(model, settings, threads), *amount, "-r", 1,
                                   "-o", "json"]))
            return {test.kind: rows[0]["avg_ts"]}
        return self.at_depth(model, test.tokens, settings, threads)

    def at_depth(self, model, tokens, settings, threads, cache_type="f16"):
        """Tokens a second of filling the cache with `tokens`, and of decoding after them."""
        output = run([self.programs / "llama-batched-bench", *self.common(model, settings, threads), "-ctk", cache_type,
                      "-ctv", cache_type, "-npp", tokens, "-ntg", DECODE_TOKENS, "-npl", 1,
                      "-c", tokens + DECODE_TOKENS + 256, "--output-format", "jsonl"])
        row = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
        return {"prefill": row["speed_pp"], "decode": row["speed_tg"]}


def built_peers():
    """Folder of the peers, with llama.cpp in it; ends this program where it cannot be built."""
    built = subprocess.run([ROOT / "tools/peers", "llama.cpp"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        sys.exit(built.returncode)
    return pathlib.Path(built.stdout.splitlines()[-1])


def adze_speeds(model, test, threads):
    common = [ADZE, "bench", "--model", model, "--threads", threads, "--repetitions", 1, "--json"]
    if test.kind == "prefill" and test.tokens == 512:
        row = json.loads(run([*common, "--prompt-tokens", test.tokens, "--decode-tokens", 0]))
        return {"prefill": row["prefill_tokens_per_second"]}
    row = json.loads(run([*common, "--prompt-tokens", 0, "--decode-tokens", DECODE_TOKENS, "--depth", test.tokens]))
    return {"prefill": row["depth_tokens_per_second"], "decode": row["decode_tokens_per_second"]}


def passes(tests, settings):
    """(test, settings) of the runs that cover all tests: one pass gives both kinds where settings agree."""
    found = []
    for test in tests:
        key = (test.tokens if test.tokens not in (0, 512) else test.name, json.dumps(settings[test.name]))
        if key not in [known for known, _ in found]:
            found.append((key, test))
    return [test for _, test in found]


def calibration(peer, model, tests, threads, home, anew):
    """The best settings by test, measured where they are not yet known for this processor."""
    identity = f"{processor()} {threads} {model.name} {model.stat().st_size}"
    path = home / f"calibration-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    known = json.loads(path.read_text()) if path.exists() and not anew else {}
    missing = [test for test in tests if test.name not in known]
    measured = {}
    for test in missing:
        shape = test.tokens if test.tokens not in (0, 512) else test.name
        if (shape, 0) not in measured:
            for number in [*range(len(SETTINGS))] * 2:  # the better of two: machines are noisy
                speeds = peer.speeds(model, test, SETTINGS[number], threads)
                earlier = measured.get((shape, number), speeds)
                measured[shape, number] = {kind: max(speeds[kind], earlier[kind]) for kind in speeds}
        best = max(range(len(SETTINGS)), key=lambda number: measured[shape, number][test.kind])
        known[test.name] = SETTINGS[best]
        say(f"calibrated {test.name}: " + ", ".join(
            f"{'*' if number == best else ''}flash {settings['flash_attention']} batch {settings['micro_batch']} "
            f"{measured[shape, number][test.kind]:.1f}" for number, settings in enumerate(SETTINGS)))
        path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def measure(peer, model, tests, settings, threads, rounds):
    samples = {test.name: {"adze": [], "llama.cpp": []} for test in tests}
    names = set(samples)
    start = time.monotonic()
    for number in range(rounds):
        done = set()
        for test in passes(tests, settings):
            for kind, speed in peer.speeds(model, test, settings[test.name], threads).items():
                name = f"{kind}_{test.tokens}"
                if name in names and settings[name] == settings[test.name]:
                    samples[name]["llama.cpp"].append(speed)
            if test.tokens in done and test.tokens != 512:
                continue  # adze has no such settings: one pass is enough
            done.add(test.tokens)
            for kind, speed in adze_speeds(model, test, threads).items():
                if f"{kind}_{test.tokens}" in names:
                    samples[f"{kind}_{test.tokens}"]["adze"].append(speed)
        passed = time.monotonic() - start
        say(f"round {number + 1} of {rounds}, {passed / (number + 1) * (rounds - number - 1):.0f} s left")
    return samples


def report(model, samples, settings, threads):
    ratios = {}
    say(f"\n{model.name}, {threads} threads, f16 cache; tokens/s, median (least to most)\n")
    say("| test | adze | llama.cpp | its settings | ratio |\n|---|---|---|---|---|")
    for name, pair in samples.items():
        medians = {side: statistics.median(values) for side, values in pair.items()}
        ratios[name] = round(medians["adze"] / medians["llama.cpp"], 3)
        cells = [f"{medians[side]:.1f} ({min(values):.1f} to {max(values):.1f})" for side, values in pair.items()]
        chosen = settings[name]
        say(f"| {name} | {cells[0]} | {cells[1]} | flash {chosen['flash_attention']}, micro-batch "
            f"{chosen['micro_batch']} | {ratios[name]:.2f} {'█' * round(8 * ratios[name])} |")
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tests", default=",".join(test.name for test in TESTS))
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    wanted = options.tests.split(",")
    unknown = set(wanted) - {test.name for test in TESTS}
    if unknown:
        parser.error(f"--tests: expected some of {','.join(test.name for test in TESTS)}; got {','.join(unknown)}")
    tests = [test for test in TESTS if test.name in wanted]

    home = built_peers()
    peer = LlamaCpp(home / "llama.cpp")
    for model in options.model or [default_model()]:
        settings = calibration(peer, model, tests, options.threads, home, options.calibrate)
        if options.calibrate:
            continue
        samples = measure(peer, model, tests, settings, options.threads, options.rounds)
        ratios = report(model, samples, settings, options.threads)
        keep_record("peers", {**circumstances(model, options.threads), "settings": settings,
                              "samples": samples, "ratios": ratios})
        print(json.dumps(ratios), flush=True)


if __name__ == "__main__":
    main()
