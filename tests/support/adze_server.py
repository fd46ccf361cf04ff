"""Starts `adze serve` and talks to it with the standard library alone.

  with Server("--max-sequences", 4) as server:
      reply = server.chat("Hello", max_tokens=4)
      for event in server.stream(CHAT, {"messages": [...], "stream": True}): ...
"""

import http.client
import json
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from adze_program import ADZE, MODEL

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
START_SECONDS = 120
SANITIZERS = re.compile(r"(Address|Thread|Leak|Memory)Sanitizer|runtime error:|\[check\]|check failed")

# Gauges of GET /metrics.
RUNNING = "adze_sequences_running"        # in the batch
QUEUED = "adze_requests_queued"           # accepted and waiting
PAGES_USED = "adze_cache_pages_used"      # held by sequences, shared ones included
PAGES_PREFIX = "adze_cache_pages_prefix"  # held by the prefix cache alone
AUDIT_FAILURES = "adze_cache_audit_failures_total"  # of the pool's audits at idle


def user(text):
    return [{"role": "user", "content": text}]


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def text(self):
        """Of the first choice."""
        choice = self.json["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]

    def __repr__(self):
        return f"{self.status} {self.body[:2000]!r}"


class StreamRefused(Exception):
    def __init__(self, reply):
        super().__init__(repr(reply))
        self.reply = reply


class Stream:
    """The events of one answer, as objects; `finished` says that [DONE] came."""

    def __init__(self, connection, response):
        self.connection, self.response, self.finished = connection, response, False

    def __iter__(self):
        for line in self.response:
            line = line.rstrip(b"\r\n")
            if not line or line.startswith(b":"):
                continue
            if not line.startswith(b"data: "):
                raise AssertionError(f"not an event: {line!r}")
            if line == b"data: [DONE]":
                self.finished = True
                continue
            yield json.loads(line[6:].decode())  # an event never ends within a character

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.response.close()
        self.connection.close()


def joined(events, index=0):
    """The text of one choice, from a stream's events."""
    parts = []
    for event in events:
        for choice in event["choices"]:
            if choice["index"] == index:
                parts.append(choice["text"] if "text" in choice else choice["delta"].get("content") or "")
    return "".join(parts)


class Server:
    def __init__(self, *arguments, keys=(), model=MODEL, threads=None, timeout=120, gives_way=False):
        self.keys, self.timeout, self.lines = list(keys), timeout, []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-serve-"))
        # With f32 products the model's answers are those of the reference.
        compute = [] if "--compute" in arguments else ["--compute", "f32"]
        self.command = [ADZE, "serve", "--model", str(model), "--port", "0", *compute, *map(str, arguments)]
        if gives_way:  # to what watches its answers come in
            self.command = ["nice", "-n", "10", *self.command]
        if threads:
            self.command += ["--threads", str(threads)]
        if self.keys:
            path = self.folder / "keys"
            path.write_text("".join(key + "\n" for key in self.keys))
            path.chmod(0o600)
            self.command += ["--api-key-file", str(path)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        end = time.monotonic() + START_SECONDS
        while not self.ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                self.reader.join(5)
                shutil.rmtree(self.folder, ignore_errors=True)
                raise AssertionError(f"{self.command} did not start:\n{self.log}")
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop(check=kind is None)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self):
        for line in self.process.stderr:
            line = line.decode(errors="replace")
            self.lines.append(line)
            found = re.search(r"listening on (http://(\S+):(\d+))", line)
            if found and not self.ready.is_set():
                self.url, self.host, self.port = found[1], found[2].strip("[]"), int(found[3])
                self.ready.set()
        self.process.stderr.close()

    @property
    def log(self):
        return "".join(self.lines[-200:])

    def stop(self, check=True, timeout=60):
        """SIGTERM; the program must end by itself, with exit code 0 and nothing of a sanitizer."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                if check:
                    raise AssertionError(f"still running {timeout} s after SIGTERM:\n{self.log}") from None
        self.reader.join(10)
        if check:
            found = SANITIZERS.search("".join(self.lines))
            assert not found, self.log
            assert self.process.returncode == 0, f"exit code {self.process.returncode}:\n{self.log}"

    @property
    def alive(self):
        return self.process.poll() is None

    # --- requests ---

    def headers(self, key, more=None):
        chosen = (self.keys[0] if self.keys else None) if key is Ellipsis else key
        return {**({"Authorization": f"Bearer {chosen}"} if chosen is not None else {}), **(more or {})}

    def connect(self, timeout=None):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout or self.timeout)

    def socket(self, timeout=30):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def request(self, method, path, body=None, key=..., headers=None, timeout=None):
        """`body`: an object becomes JSON, bytes go as they are. The first key is used unless told."""
        headers = self.headers(key, headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body, **options):
        return self.request("POST", path, body, **options)

    def chat(self, messages, key=..., **fields):
        messages = user(messages) if isinstance(messages, str) else messages
        return self.post(CHAT, {"messages": messages, **fields}, key=key)

    def complete(self, prompt, key=..., **fields):
        return self.post(COMPLETIONS, {"prompt": prompt, **fields}, key=key)

    def stream(self, path, body, key=..., timeout=None):
        connection = self.connect(timeout)
        connection.request("POST", path, json.dumps({**body, "stream": True}).encode(),
                           self.headers(key, {"Content-Type": "application/json"}))
        response = connection.getresponse()
        if response.status != 200:
            reply = Reply(response.status, response.getheaders(), response.read())
            connection.close()
            raise StreamRefused(reply)
        kind = response.getheader("Content-Type", "")
        assert kind.startswith("text/event-stream"), kind
        return Stream(connection, response)

    def events(self, path, body, **options):
        with self.stream(path, body, **options) as stream:
            events = list(stream)
            assert stream.finished, "the stream ended without [DONE]"
            return events

    def tokens(self, text, **fields):
        return self.post("/tokenize", {"content": text, **fields}).json["tokens"]

    # --- what it says about itself ---

    def metrics(self):
        """Values by name and labels, and sums over all labels by name."""
        reply = self.get("/metrics")
        assert reply.status == 200, reply
        values = {}
        for line in reply.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
                if "{" in name:
                    plain = name.split("{", 1)[0]
                    values[plain] = values.get(plain, 0.0) + float(value)
        return values

    def wait_idle(self, seconds=20):
        """Until nothing runs or waits and no sequence holds a page; the metrics then."""
        end = time.monotonic() + seconds
        while True:
            values = self.metrics()
            busy = {name: values[name] for name in (RUNNING, QUEUED, PAGES_USED) if values[name] != 0}
            if not busy:
                assert values[AUDIT_FAILURES] == 0, "the page pool's audit failed"
                return values
            assert time.monotonic() < end, f"not idle after {seconds} s: {busy}"
            time.sleep(0.05)

    def wait_for(self, name, at_least, seconds=20):
        end = time.monotonic() + seconds
        while (value := self.metrics()[name]) < at_least:
            assert time.monotonic() < end, f"{name} is {value}, not {at_least}, after {seconds} s"
            time.sleep(0.02)

    def resident_bytes(self):
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * 4096


def raw_exchange(server, data, timeout=10, half_close=False):
    """Bytes out, all bytes back until the server closes or falls silent for `timeout` seconds."""
    with server.socket(timeout) as connection:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused while we were still writing: the answer may be there
        answer = b""
        while True:
            ready, _, _ = select.select([connection], [], [], timeout)
            if not ready:
                return answer
            try:
                more = connection.recv(1 << 16)
            except OSError:
                return answer
            if not more:
                return answer
            answer += more
