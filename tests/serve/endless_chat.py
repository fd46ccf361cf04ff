"""A chat without end: real dialogue (one JSON object a line with `question.stem`, such as DailyDialog's) through one
session of adze serve with sirllm. Prints, every `--every` tokens, what the server holds in memory, the bytes of the cache,
and the time a token took; fails where any of them grows. Run by hand: 100,000 tokens take some minutes.

  ADZE=build/adze PYTHONPATH=tests/support python3 tests/serve/endless_chat.py --file dailydialog.jsonl
"""

import argparse
import json
import statistics
import sys
import time

import adze_program
from adze_server import Server

MESSAGES = 11  # of a request: turns of the dialogue, the last one for the model to answer


def utterances(path):
    while True:
        with open(path, encoding="utf-8") as file:
            for line in file:
                text = " ".join(json.loads(line)["question"]["stem"].split())
                if text:
                    yield text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", required=True)
    parser.add_argument("--model", default=adze_program.MODEL)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--cap", type=int, default=1024)
    parser.add_argument("--answer", type=int, default=8, help="tokens of each answer")
    options = parser.parse_args()
    said = utterances(options.file)
    rows, restarts = [], 0
    with Server("--compute", "int8", model=options.model) as server:
        seen, next_row, start, before = 0, options.every, time.monotonic(), 0
        print(f"{'tokens':>8} {'kept':>6} {'cache MB':>9} {'on disk MB':>10} {'RSS MB':>8} {'ms/token':>9}", flush=True)
        while seen < options.tokens:
            messages = [{"role": ("user", "assistant")[i % 2], "content": next(said)} for i in range(MESSAGES)]
            reply = server.chat(messages, session="endless", kv_policy=f"sirllm:tokens={options.cap}", temperature=0,
                                max_tokens=options.answer)
            if reply.status != 200:
                sys.exit(f"after {seen} tokens: {reply}")
            report = reply.json["adze"]
            restarts += len(report["warnings"])
            seen = report["cache"]["tokens"]
            if seen >= next_row:
                now = time.monotonic()
                shown = server.get("/v1/sessions/endless").json
                rows.append((seen, report["cache"]["kept_tokens"], report["cache"]["bytes"] / 1e6, shown["bytes"] / 1e6,
                             server.resident_bytes() / 1e6, 1000 * (now - start) / (seen - before)))
                print("{:8d} {:6d} {:9.2f} {:10.2f} {:8.1f} {:9.3f}".format(*rows[-1]), flush=True)
                start, before, next_row = time.monotonic(), seen, next_row + options.every
        server.wait_idle()
    # The first row is warm-up.
    first, last = rows[1:4], rows[-3:]
    growth = [statistics.mean(row[i] for row in last) / statistics.mean(row[i] for row in first) for i in (2, 3, 4, 5)]
    print(json.dumps({"tokens": seen, "restarts": restarts, "cache_growth": growth[0], "disk_growth": growth[1],
                      "resident_growth": growth[2], "time_growth": growth[3]}))
    return 0 if restarts == 0 and max(growth[:3]) < 1.03 and growth[3] < 1.25 else 1


if __name__ == "__main__":
    sys.exit(main())
