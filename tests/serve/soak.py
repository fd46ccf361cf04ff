#!/usr/bin/env python3
"""Load and faults against adze serve, all at once:

  tests/serve/soak.py [--seconds 120] [--connections 1000] [--rate 200] [--fuzz 10000] [--seed 1]

Open streaming connections (some read slowly, some leave in mid-stream), tiny requests, half-open sockets,
malformed and huge bodies, fuzzed requests, wrong keys. Throughout, another client asks the same thing and
must get the same bytes. In the end: the server lives, every request was answered or refused in an orderly
way, memory did not grow after warm-up, every page is back. What happened comes as one JSON object, last.
Python's standard library alone."""

import argparse
import asyncio
import collections
import copy
import json
import os
import random
import resource
import socket
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import adze_program
from adze_server import CHAT, COMPLETIONS, EMBEDDINGS, QUEUED, RUNNING, Server, user

KEYS = ["soak-load-0123456789abcdef", "soak-check-fedcba9876543210"]
LOAD, CHECK = KEYS
ENDLESS = {"0": -100, "2": -100}  # the model's two end tokens never come
STORY = ("The keeper of the northern lighthouse wrote down every ship that passed, its flag, its course and the "
         "weather, and at the end of each month he sent the pages to the harbour office by the mail boat. ")
TURNED_AWAY = {429, 503}
REFUSALS = {400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 431, 501, 505} | TURNED_AWAY
ANSWER_SECONDS = 180  # longer without an answer is a fault
WARM_UP = 0.3         # share of the run
FLAT = 0.02           # growth of memory after warm-up that is let pass
JUDGED_SECONDS = 60   # a shorter run is all warm-up: growth and open streams are reported only

CHECKED = {"messages": user(f"{STORY} What did the keeper write down?"), "max_tokens": 12, "temperature": 0,
           "logprobs": True, "top_logprobs": 1}
VALID = [
    (CHAT, {"messages": user("Hi"), "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"],
            "timeout_seconds": 5, "logit_bias": {"5": 1}, "n": 2}),
    (CHAT, {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]}],
            "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}, "timeout_seconds": 5,
            "kv_store": "int8", "kv_policy": "window:sinks=4,window=60"}),
    (CHAT, {"messages": user("x"), "max_tokens": 4, "timeout_seconds": 5, "response_format": {
        "type": "json_schema", "json_schema": {"name": "n", "schema": {
            "type": "object", "properties": {"a": {"enum": [1, "b", None]}, "c": {"type": "string", "maxLength": 3}},
            "required": ["a"], "additionalProperties": False}}}}),
    (CHAT, {"messages": user("x"), "max_tokens": 4, "timeout_seconds": 5, "tool_choice": "required", "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]}),
    (CHAT, {"messages": [*user("x"), {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[" * 50000}}]},
        {"role": "tool", "tool_call_id": "c", "content": "y"}], "max_tokens": 2, "timeout_seconds": 5}),
    (COMPLETIONS, {"prompt": ["a", "b"], "max_tokens": 0, "echo": True, "logprobs": 2, "timeout_seconds": 5}),
    (COMPLETIONS, {"prompt": [[5, 6], [7]], "max_tokens": 2, "frequency_penalty": 1, "timeout_seconds": 5}),
    (EMBEDDINGS, {"input": ["a", "b"], "encoding_format": "base64"}),
    ("/tokenize", {"content": "a b c", "with_pieces": True}),
    ("/detokenize", {"tokens": [1, 2, 3]}),
]
HOSTILE = [None, True, 0, -1, 1 << 63, 1 << 70, 1e308, 1.5, "", "\0", "x" * 70000, "🦙", "\ud800", [], {}, [[]], [None],
           {"": ""}, [1] * 5000, {"$ref": "#"}, float("nan"), float("inf"), -float("inf"), "NaN"]
MALFORMED = [
    b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000, b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 500,
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
]


def places(node, path=()):
    """Paths of all values within an object."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def mutated(body, generator):
    """A valid request with something wrong with it, as bytes."""
    body = json.loads(json.dumps(body))
    for _ in range(generator.choice((1, 1, 2, 4))):
        path = generator.choice([path for path in places(body) if path and path[-1] != "timeout_seconds"] or [("x",)])
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        action = generator.randrange(5)
        if action == 0 and path[-1] not in ("max_tokens",):
            del parent[path[-1]]
        elif action == 1 and isinstance(parent, dict):
            parent[generator.choice(["x", "", "n", "stop", "tools", "stream", "logprobs", "best_of", "model"])] = (
                copy.deepcopy(generator.choice(HOSTILE)))  # which later turns of this loop may change
        elif action == 2 and isinstance(parent, list):
            parent += parent * generator.randrange(3)
        else:
            parent[path[-1]] = copy.deepcopy(generator.choice(HOSTILE))
        if not body:
            break
    data = bytearray(json.dumps(body).encode())
    kind = generator.randrange(6)
    if kind == 0 and data:
        data[generator.randrange(len(data))] = generator.randrange(256)
    elif kind == 1:
        del data[generator.randrange(len(data) + 1):]
    elif kind == 2:
        at = generator.randrange(len(data) + 1)
        data[at:at] = generator.choice([b"[" * 5000, b"\xff", b"\\u0000", b'"', b"{}", b"1e999"])
    return bytes(data)


class Fault(Exception):
    pass


class Soak:
    def __init__(self, server, options):
        self.server, self.options = server, options
        self.generator = random.Random(options.seed)
        self.statuses = collections.defaultdict(collections.Counter)  # by kind of client
        self.faults, self.open_streams, self.most_open = [], 0, 0
        self.tiny_seconds, self.resident, self.most = [], [], collections.Counter()
        self.streams_finished = self.left = self.checks = self.fuzzed = 0
        self.until = None

    @property
    def over(self):
        return time.monotonic() > self.until

    def head(self, path, key, size, method="POST"):
        return (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n").encode()

    async def status(self, reader):
        """Status and Retry-After of an answer; None where the connection ended without one."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None, 0
        lines = head.decode("latin-1").lower().split("\r\n")
        wait = next((int(line.split(":")[1]) for line in lines if line.startswith("retry-after:")), 0)
        return int(lines[0].split(" ")[1]), wait

    async def exchange(self, path, body, key, method="POST"):
        """Status, Retry-After and body of one request on a connection of its own."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            try:
                writer.write(self.head(path, key, len(data), method) + data)
                await writer.drain()
            except ConnectionError:
                pass  # refused before all of it was written: the answer may be there
            status, wait = await self.status(reader)
            rest = b"" if status is None else await reader.read()
            return status, wait, rest
        finally:
            writer.close()

    async def answered(self, kind, legal, path, body, key=LOAD, method="POST"):
        try:
            status, wait, rest = await asyncio.wait_for(self.exchange(path, body, key, method), ANSWER_SECONDS)
        except (asyncio.TimeoutError, OSError) as error:
            self.fault(f"{kind}: {path}: {error!r}; body {body!r:.300}")
            return None, b""
        self.statuses[kind][str(status)] += 1
        if status not in legal:
            self.fault(f"{kind}: {path}: status {status}, {rest[:300]!r}; body {body!r:.300}")
        return status, rest

    def fault(self, text):
        self.faults.append(text)

    # --- clients ---

    async def stream_client(self, number):
        """Streams one answer after another; every 8th reads slowly, every 5th leaves in mid-stream."""
        generator = random.Random(number)
        await asyncio.sleep(self.options.seconds * 0.1 * generator.random())
        slow, leaves = number % 8 == 0, number % 5 == 0
        while not self.over:
            body = json.dumps({"messages": user(f"{number % 64}. {STORY * (number % 3)}Go on."), "stream": True,
                               "max_tokens": generator.choice((4, 8, 16)), "logit_bias": ENDLESS}).encode()
            wait = await self.stream_once(body, slow, generator.randrange(1, 8) if leaves else None)
            await asyncio.sleep(wait)

    async def stream_once(self, body, slow, leave_after):
        connection = socket.socket()
        if slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.setblocking(False)
        writer = None
        self.open_streams += 1
        self.most_open = max(self.most_open, self.open_streams)
        try:
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.server.port))
            reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
            writer.write(self.head(CHAT, LOAD, len(body)) + body)
            status, wait = await asyncio.wait_for(self.status(reader), ANSWER_SECONDS)
            self.statuses["stream"][str(status)] += 1
            if status in TURNED_AWAY:
                if status == 429 and wait < 1:
                    self.fault("stream: 429 without Retry-After")
                return max(1, wait)
            if status != 200:
                self.fault(f"stream: status {status}")
                return 1
            tail, events = b"", 0
            while more := await asyncio.wait_for(reader.read(100 if slow else 4096), ANSWER_SECONDS):
                events += more.count(b"data: ")
                tail = (tail + more)[-40:]
                if leave_after and events >= leave_after:
                    self.left += 1
                    return 0.1
                if slow and not self.over:
                    await asyncio.sleep(0.2)
            if b"[DONE]" in tail:
                self.streams_finished += 1
            elif not slow:  # who reads too slowly may be given up
                self.fault(f"stream: ended with {tail!r}")
        except (asyncio.TimeoutError, OSError) as error:
            if not slow:
                self.fault(f"stream: {error!r}")
        finally:
            self.open_streams -= 1
            if writer:
                writer.close()
            else:
                connection.close()
        return 0

    async def paced(self, rate, make):
        """Starts make() `rate` times a second and waits for all of them in the end."""
        running, start, count = set(), time.monotonic(), 0
        while not self.over:
            due = int((time.monotonic() - start) * rate)
            for _ in range(min(due - count, 50)):
                task = asyncio.create_task(make())
                running.add(task)
                task.add_done_callback(running.discard)
            count = due
            await asyncio.sleep(0.02)
        if running:
            await asyncio.gather(*running)

    async def tiny(self):
        start, choice = time.monotonic(), self.generator.randrange(5)
        if choice == 0:
            await self.answered("tiny", {200} | TURNED_AWAY, "/health", b"", method="GET")
        elif choice == 1:
            await self.answered("tiny", {200} | TURNED_AWAY, "/tokenize", {"content": "One, two"})
        elif choice == 2:
            await self.answered("tiny", {200} | TURNED_AWAY, "/v1/models", b"", method="GET")
        else:
            await self.answered("tiny", {200} | TURNED_AWAY, COMPLETIONS, {"prompt": "One,", "max_tokens": 1})
            return
        self.tiny_seconds.append(time.monotonic() - start)

    async def fuzz(self):
        path, body = self.generator.choice(VALID)
        if self.generator.random() < 0.02:
            path = self.generator.choice(["/", "/v1/models", "/none", path + "/x", "/v1/%00", "//", path + "?a=b"])
        self.fuzzed += 1
        await self.answered("fuzz", {200, 504} | REFUSALS, path, mutated(body, self.generator))

    async def wrong_key(self):
        key = self.generator.choice(["", "wrong", LOAD[:-1], LOAD + "x", "x" * 5000])
        path, body = self.generator.choice(VALID)
        await self.answered("wrong key", {401, 431}, path, body, key)

    async def malformed(self):
        """Bytes that are no request; any answer but 200 and no answer at all are right."""
        if self.generator.random() < 0.2:
            size = 20 << 20
            try:
                status, _, _ = await asyncio.wait_for(self.exchange(COMPLETIONS, b" " * size, LOAD), ANSWER_SECONDS)
                self.statuses["huge"][str(status)] += 1
                if status not in (413, None):
                    self.fault(f"huge: status {status}")
            except OSError:
                self.statuses["huge"]["None"] += 1
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(self.generator.choice(MALFORMED))
            writer.write_eof()
            status, _ = await asyncio.wait_for(self.status(reader), ANSWER_SECONDS)
            self.statuses["malformed"][str(status)] += 1
            if status == 200:
                self.fault("malformed: status 200")
        except (OSError, asyncio.LimitOverrunError, ValueError):
            self.statuses["malformed"]["None"] += 1
        finally:
            writer.close()

    async def half_open(self, number):
        """A connection that says nothing, or half of something, and stays until it is given up."""
        while not self.over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            try:
                writer.write((b"", b"POST /v1/comp", self.head(COMPLETIONS, LOAD, 100) + b"{")[number % 3])
                await asyncio.wait_for(reader.read(), max(0.1, self.until - time.monotonic()))
            except (asyncio.TimeoutError, OSError):
                pass
            finally:
                writer.close()
            await asyncio.sleep(0.5)

    async def checker(self):
        """Another tenant, who must not notice any of this but in time."""
        while not self.over:
            status, rest = await self.answered("check", {200} | TURNED_AWAY, CHAT, CHECKED, CHECK)
            if status == 200:
                self.compare(rest)
            await asyncio.sleep(1)

    def compare(self, body):
        # Chunked or not: what is compared is the object within.
        text = body.decode(errors="replace")
        found = json.loads(text[text.index("{"):text.rindex("}") + 1])["choices"]
        self.checks += 1
        if found != self.expected:
            self.fault(f"check: other bytes: {found!r:.300} and not {self.expected!r:.300}")

    async def watch(self):
        start = time.monotonic()
        while not self.over:
            if not self.server.alive:
                raise Fault(f"the server ended:\n{self.server.log}")
            try:
                self.resident.append((time.monotonic() - start, self.server.resident_bytes()))
            except OSError:
                continue
            status, rest = await self.answered("metrics", {200}, "/metrics", b"", method="GET")
            for line in rest.decode(errors="replace").splitlines():
                for name in (RUNNING, QUEUED):
                    if line.startswith((name + " ", name + "{")):
                        self.most[name] = max(self.most[name], int(float(line.rsplit(" ", 1)[1])))
            await asyncio.sleep(0.5)

    async def run(self):
        options = self.options
        self.until = time.monotonic() + options.seconds
        await asyncio.gather(
            self.watch(), self.checker(), self.paced(options.rate, self.tiny),
            self.paced(options.fuzz / options.seconds, self.fuzz), self.paced(5, self.wrong_key),
            self.paced(3, self.malformed), *(self.half_open(number) for number in range(30)),
            *(self.stream_client(number) for number in range(options.connections)))

    # --- the end ---

    def growth(self):
        """Memory in the last third after warm-up against the first third: medians."""
        late = [size for when, size in self.resident if when > self.options.seconds * WARM_UP]
        third = max(1, len(late) // 3)
        first, last = statistics.median(late[:third]), statistics.median(late[-third:])
        return last / first - 1, first, last

    def resident_by_tenth(self):
        tenths = [[] for _ in range(10)]
        for when, size in self.resident:
            tenths[min(9, int(10 * when / self.options.seconds))].append(size)
        return [round(statistics.median(sizes) / 2**20, 1) if sizes else None for sizes in tenths]

    def report(self):
        growth, first, last = self.growth()
        if growth > FLAT and self.options.seconds >= JUDGED_SECONDS:
            self.faults.append(f"memory grew by {growth:.1%} after warm-up, more than {FLAT:.0%}")
        if self.most_open < self.options.connections and self.options.seconds >= JUDGED_SECONDS:
            self.faults.append(f"{self.most_open} streams were open at once, not {self.options.connections}")
        if self.checks < 2:
            self.faults.append(f"the checked request was answered {self.checks} times")
        tiny = sorted(self.tiny_seconds) or [0.0]
        return {"seconds": self.options.seconds, "connections": self.options.connections, "most_open": self.most_open,
                "requests": sum(sum(counts.values()) for counts in self.statuses.values()),
                "statuses": {kind: dict(counts) for kind, counts in sorted(self.statuses.items())},
                "streams_finished": self.streams_finished, "streams_left": self.left, "fuzzed": self.fuzzed,
                "same_bytes_checks": self.checks, "most_running": self.most[RUNNING], "most_queued": self.most[QUEUED],
                "resident_mib": [round(first / 2**20, 1), round(last / 2**20, 1)],
                "resident_mib_by_tenth": self.resident_by_tenth(), "resident_growth": round(growth, 4),
                "tiny_seconds_median": round(statistics.median(tiny), 4),
                "tiny_seconds_99": round(tiny[int(len(tiny) * 0.99)] if len(tiny) > 1 else tiny[0], 4),
                "faults": len(self.faults)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200, help="tiny requests a second")
    parser.add_argument("--fuzz", type=int, default=10000, help="fuzzed requests in all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    adze_program.default_model()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the server inherits it
    # A cache that is full before memory is judged: what fills it is no leak.
    with Server("--compute", "int8", "--max-sequences", 32, "--max-queue", options.connections + 300,
                "--cache-gib", 0.1, keys=KEYS) as server:
        soak = Soak(server, options)
        alone = server.post(CHAT, CHECKED, key=CHECK)
        assert alone.status == 200, alone
        soak.expected = alone.json["choices"]
        asyncio.run(soak.run())
        values = server.wait_idle(60)
        for key in (CHECK, LOAD):
            soak.compare(server.post(CHAT, CHECKED, key=key).body)
        result = soak.report()
        result["pages_used_at_the_end"] = 0
        result["gauges"] = {name: values[name] for name in values if "{" not in name and name.startswith("adze_cache")}
    for text in soak.faults[:20]:
        print(f"fault: {text}", file=sys.stderr)
    print(json.dumps(result))
    sys.exit(1 if soak.faults else 0)


if __name__ == "__main__":
    main()
