#!/usr/bin/env python3
"""adze serve beside llama-server: the same file, token ids and threads, by turns.

  bench/serve.py [--rounds N] [--threads N] [--clients N] [--requests N]

16 clients at once, each with requests of 256 prompt tokens and 64 answer tokens, one after another:
total tokens a second is (prompt + answer tokens) / time until the last answer. All prompts are distinct.
A second shape, 16 prompt tokens and 128 answer tokens, is nearly all decoding. llama-server runs with 16
slots and continuous batching, with flash attention on and off in every round; the better median counts.
Then, on each side, a system prompt of 1,000 tokens: time to the first token of the first request that has
it, and of a second one with another question. Every pass has a server of its own, warmed by one request.

Ratios are adze / llama-server of the medians: over 1 is in adze's favour. The table goes to standard
error, a record to bench/records, one JSON line to standard output.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import ADZE, ROOT, circumstances, default_model, keep_record, run, say

NEVER_ENDS = {"0": -100, "2": -100}  # the end tokens of the default model
SHAPES = {"throughput": (256, 64), "decode": (16, 128)}  # prompt and answer tokens
SYSTEM_TOKENS = 1000
START_SECONDS = 120
SIDES = ("adze", "llama-server, flash on", "llama-server, flash off")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """One of the two servers, while it runs."""

    def __init__(self, side, model, programs, options):
        self.is_adze, self.port = side == "adze", free_port()
        if self.is_adze:
            self.command = [ADZE, "serve", "--model", model, "--port", self.port, "--threads", options.threads,
                            "--max-sequences", options.clients]
        else:  # cache-ram 0: it would copy what no later prompt begins with
            self.command = [programs / "llama-server", "-m", model, "--port", self.port, "-t", options.threads,
                            "-tb", options.threads, "-np", options.clients, "-cb", "-ngl", 0, "--cache-ram", 0,
                            "-fa", side.rsplit(" ", 1)[1], "-c", options.clients * 2048, "--no-webui"]

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(part) for part in self.command], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if self.request("GET", "/health")[0] == 200:
                    return self
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                self.log.seek(0)
                sys.exit(f"bench: {self.command[0]} did not start:\n{self.log.read()[-2000:].decode()}")
            time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def endless(self):
        return {"logit_bias": NEVER_ENDS} if self.is_adze else {"ignore_eos": True}

    def complete(self, tokens, length):
        """One answer of exactly `length` tokens."""
        status, body = self.request("POST", "/v1/completions", {"prompt": tokens, "max_tokens": length,
                                                                "temperature": 0, **self.endless()})
        if status != 200:
            sys.exit(f"bench: {self.command[0]} answers {status}: {body[:500]}")
        usage = json.loads(body)["usage"]
        if (usage["prompt_tokens"], usage["completion_tokens"]) != (len(tokens), length):
            sys.exit(f"bench: {self.command[0]}: expected {len(tokens)} + {length} tokens, got {usage}")

    def seconds_to_first_token(self, system, question):
        body = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": question}],
                "max_tokens": 4, "temperature": 0, "stream": True, **self.endless()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        start = time.perf_counter()
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        found = None
        for line in connection.getresponse():
            if line.startswith(b"data: {") and found is None:
                event = json.loads(line[6:])
                if "error" in event:
                    sys.exit(f"bench: {self.command[0]}: {event}")
                if any(choice["delta"].get("content") for choice in event["choices"]):
                    found = time.perf_counter() - start
        connection.close()
        return found

    def tokens_per_second(self, prompts, length):
        """`prompts` by client; each client asks one after another."""
        def client(own):
            for tokens in own:
                self.complete(tokens, length)

        start = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            for done in [pool.submit(client, own) for own in prompts]:
                done.result()
        seconds = time.perf_counter() - start
        return sum(len(tokens) + length for own in prompts for tokens in own) / seconds


def text_tokens(model, wanted):
    """Token ids of real text: the shared data where it is here, else this repository's own pages."""
    shared = ROOT.parent / "shared/data/text/wikitext2-test.txt"
    own = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "LICENSE"]
    pages = [shared] if shared.exists() else own
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        text = "\n".join(page.read_text() for page in pages)
        file.write(text[:wanted * 8])
        file.flush()
        ids = json.loads(run([ADZE, "tokenize", "--model", model, "--file", file.name, "--special", "plain",
                              "--json"]).splitlines()[-1])["ids"]
    if len(ids) < wanted:
        sys.exit(f"bench: expected {wanted} tokens of text, got {len(ids)} from {', '.join(map(str, pages))}")
    return ids


def detokenize(model, ids):
    return json.loads(run([ADZE, "detokenize", "--model", model, "--json", "--ids", *ids]).splitlines()[-1])["text"]


def prompts_of_a_round(ids, number, size, options):
    """[client][request] -> `size` tokens, no two alike; the first tells the rounds apart."""
    count = options.clients * options.requests
    pieces = [[1000 + 97 * number + piece, *ids[piece * size + number:(piece + 1) * size + number - 1]]
              for piece in range(count)]
    return [pieces[client::options.clients] for client in range(options.clients)]


def prefix_times(served, system):
    """(first, second): other questions, the same system prompt."""
    return [served.seconds_to_first_token(system, question)
            for question in ("What is this text about?", "Who is named in it?")]


def peer_of(samples, name):
    """The setting of llama-server that counts for a test: the one that was faster in the first round."""
    if name in SHAPES:
        return max(SIDES[1:], key=lambda side: samples[name][side][0])
    return min(SIDES[1:], key=lambda side: samples["first_token"][side][0])


def still_measured(samples, name, number):
    """The sides of a round, in turn."""
    if number == 0:
        return SIDES
    peer = peer_of(samples, name)
    return (peer, SIDES[0]) if number % 2 else (SIDES[0], peer)


def measure(model, programs, ids, options):
    samples = {name: {side: [] for side in SIDES} for name in (*SHAPES, "first_token", "second_token")}
    start = first = time.monotonic()
    for number in range(options.rounds):
        for name, (size, length) in SHAPES.items():
            for side in still_measured(samples, name, number):
                with Served(side, model, programs, options) as served:
                    served.complete(ids[-size:], 4)
                    speed = served.tokens_per_second(prompts_of_a_round(ids, number, size, options), length)
                    samples[name][side].append(speed)
        system = detokenize(model, ids[number * 100:number * 100 + SYSTEM_TOKENS])
        for side in still_measured(samples, "first_token", number):
            with Served(side, model, programs, options) as served:
                served.complete(ids[-64:], 4)
                for name, seconds in zip(("first_token", "second_token"), prefix_times(served, system)):
                    samples[name][side].append(seconds)
        now = time.monotonic()
        a_round = (now - first) / number if number else 0.6 * (now - start)  # the first one measures more
        first = first if number else now
        say(f"round {number + 1} of {options.rounds}, {a_round * (options.rounds - number - 1):.0f} s left")
    return samples


def report(samples, options):
    medians = {name: {side: statistics.median(values) for side, values in sides.items()}
               for name, sides in samples.items()}
    result = {}
    say(f"\n{options.clients} clients, {options.threads} threads; median (least to most)\n")
    say("| test | " + " | ".join(SIDES) + " | ratio |\n|---|---|---|---|---|")
    for name, sides in samples.items():
        is_time = name not in SHAPES
        unit, scale = ("ms", 1000) if is_time else ("tokens/s", 1)
        peer = medians[name][peer_of(samples, name)]
        ratio = peer / medians[name]["adze"] if is_time else medians[name]["adze"] / peer
        result[f"{name}_ratio"] = round(ratio, 3)
        cells = [f"{medians[name][side] * scale:.1f} ({min(values) * scale:.1f} to {max(values) * scale:.1f})"
                 for side, values in sides.items()]
        say(f"| {name}, {unit} | " + " | ".join(cells) + f" | {ratio:.2f} {'█' * round(8 * ratio)} |")
    for field, side in (("time_to_first_token", "adze"), ("llama_server", peer_of(samples, "first_token"))):
        speedup = statistics.median(first / second for first, second in zip(
            samples["first_token"][side], samples["second_token"][side]))
        result[f"{field}_prefix_speedup"] = round(speedup, 3)
    result["adze_tokens_per_second"] = round(medians["throughput"]["adze"], 1)
    result["llama_server_tokens_per_second"] = round(medians["throughput"][peer_of(samples, "throughput")], 1)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=2, help="of each client, in each pass")
    options = parser.parse_args()
    built = subprocess.run([ROOT / "tools/peers", "llama.cpp"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        sys.exit(built.returncode)
    programs = pathlib.Path(built.stdout.splitlines()[-1]) / "llama.cpp"
    model = default_model()
    longest = max(size for size, _ in SHAPES.values())
    ids = text_tokens(model, options.clients * options.requests * longest + options.rounds * 100 + SYSTEM_TOKENS)
    samples = measure(model, programs, ids, options)
    result = report(samples, options)
    keep_record("serve", {**circumstances(model, options.threads), "clients": options.clients,
                          "requests": options.requests, "shapes": SHAPES, "samples": samples, "ratios": result})
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
