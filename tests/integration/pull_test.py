"""adze pull, list and remove against a hub on this machine that does what huggingface.co does, and
what a broken or hostile one may do. No byte leaves the machine."""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import pty
import random
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

import adze_program
from adze_program import ADZE

TOKEN = "hf_secret"
PICKLES = ["pytorch_model.bin", "model.pt", "tf_model.h5", "model.ckpt"]


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


def gguf(architecture=b"llama"):
    """The smallest file that is one: one key, no tensors."""
    def text(value):
        return struct.pack("<Q", len(value)) + value
    return (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"general.architecture") +
            struct.pack("<I", 8) + text(architecture))


def git_blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def listed(path, data):
    """An entry as the hub lists it: large files by sha256, others by their name in git."""
    if path.endswith((".gguf", ".safetensors", ".bin")):
        return {"type": "file", "path": path, "size": len(data), "oid": "0" * 40,
                "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data),
                        "pointerSize": 134}}
    return {"type": "file", "path": path, "size": len(data), "oid": git_blob(data)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server.hub
        with hub.lock:
            hub.requests.append((self.server.role, self.path, dict(self.headers)))
        if hub.hook is not None and hub.hook(self):
            return
        url = urllib.parse.urlsplit(self.path)
        parts = url.path.lstrip("/").split("/", 4)
        if self.server.role == "cdn":
            self.send_file(hub.blobs[url.path.lstrip("/")])
        elif parts[:2] == ["api", "models"]:
            self.send_listing(url)
        else:
            self.send_resolved(url)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_listing(self, url):
        hub = self.server.hub
        _, _, owner, name, _, revision = url.path.lstrip("/").split("/", 5)
        files = hub.repositories.get((f"{owner}/{name}", urllib.parse.unquote(revision)))
        if files is None:
            self.answer(404, b"{}", X_Error_Code="RepoNotFound")
            return
        entries = [{"type": "directory", "path": "folder", "size": 0, "oid": "1" * 40}]
        entries += [listed(path, data) for path, data in files.items()]
        for entry in entries:
            entry.update(hub.lies.get(entry["path"], {}))
        page = int(urllib.parse.parse_qs(url.query).get("cursor", ["0"])[0])
        end = (page + 1) * hub.page_size
        headers = {}
        if end < len(entries):
            following = f"{hub.endpoint}{url.path}?recursive=true&cursor={page + 1}"
            headers["Link"] = f'<{following}>; rel="next"'
        self.answer(200, json.dumps(entries[page * hub.page_size:end]).encode(),
                    Content_Type="application/json", **headers)

    def send_resolved(self, url):
        hub = self.server.hub
        owner, name, _, revision, path = url.path.lstrip("/").split("/", 4)
        files = hub.repositories.get((f"{owner}/{name}", urllib.parse.unquote(revision)), {})
        path = urllib.parse.unquote(path)
        if path not in files:
            self.answer(404, b"Entry not found", X_Error_Code="EntryNotFound")
        elif "lfs" in listed(path, b""):
            key = hashlib.sha256(files[path]).hexdigest()
            hub.blobs[key] = files[path]
            self.answer(302, b"Found", Location=f"{hub.cdn_endpoint}/{key}?signature=x",
                        X_Linked_ETag=f'"{key}"')
        else:
            self.send_file(files[path])

    def send_file(self, data):
        hub = self.server.hub
        tag = f'"{hub.tag or hashlib.md5(data).hexdigest()}"'
        begin = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range", tag) == tag and hub.ranges:
            begin = int(wanted.group(1))
            if begin >= len(data):
                self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        end = len(data)
        if hub.cuts:
            end = min(end, begin + hub.cuts.pop(0))
        hub.sending += 1
        try:
            for at in range(begin, end, hub.piece):
                hub.sent += self.wfile.write(data[at:min(at + hub.piece, end)])
                time.sleep(hub.delay)
        finally:
            hub.sending -= 1
        if end < len(data):
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


class Hub:
    """A hub and, on another port, the host that it redirects to for large files."""

    def __init__(self, certificate=None):
        self.lock = threading.Lock()
        self.repositories = {}  # (OWNER/NAME, revision) -> {path: bytes}
        self.blobs = {}
        self.lies = {}          # path -> what its list entry says instead
        self.requests = []      # (role, path, headers)
        self.hook = None        # handler -> whether it answered
        self.page_size = 1000
        self.tag = None
        self.ranges = True
        self.cuts = []          # bytes after which each answer ends, connection and all
        self.sent = 0           # bytes of files
        self.sending = 0        # answers that are not over
        self.piece = 1 << 16
        self.delay = 0
        self.servers = []
        scheme = "https" if certificate else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self.start('hub', certificate)}"
        self.cdn_endpoint = f"{scheme}://127.0.0.1:{self.start('cdn', certificate)}"

    def start(self, role, certificate):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a client that goes away is no news
        server.hub = self
        server.role = role
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.servers.append(server)
        return server.server_address[1]

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def add(self, name, files, revision="main"):
        self.repositories[(name, revision)] = files

    def fetched(self, role):
        return [(path, headers) for each, path, headers in self.requests if each == role]


class Case(adze_program.Case):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-pull-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.hub = Hub()
        self.addCleanup(self.hub.stop)
        self.models = self.folder / "data/adze/models"
        self.environment = {
            name: value for name, value in os.environ.items()
            if name.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}
        self.environment.update(XDG_DATA_HOME=str(self.folder / "data"),
                                HF_ENDPOINT=self.hub.endpoint, HF_TOKEN=TOKEN)

    def pull(self, *arguments, **options):
        return self.object("pull", *arguments, env=self.environment, **options)

    def refuse(self, parts, *arguments, code=1):
        """The message after whatever was told before it."""
        result = adze_program.run("pull", *arguments, env=self.environment)
        lines = result.stderr.decode().splitlines()
        self.assertEqual(result.returncode, code, lines)
        self.assertEqual(result.stdout, b"")
        self.assertTrue(lines[-1].startswith("adze: ["), lines)
        self.assertEqual(sum(line.startswith("adze: ") for line in lines), 1, lines)
        for part in parts:
            self.assertIn(str(part), lines[-1])
        return lines[-1]

    def listed_models(self):
        return self.object("list", env=self.environment)["models"]

    def parts(self):
        """What unfinished pulls have left: path below the store -> bytes."""
        return {str(path.relative_to(self.models)): path.stat().st_size
                for path in self.models.rglob("*.part") if path.is_file()}


class Files(Case):
    def test_gguf(self):
        data = content(3_000_000)
        self.hub.add("some/model-GGUF", {"README.md": b"# text", "model-Q4_K_M.gguf": data})
        pulled = self.pull("some/model-GGUF")
        path = pathlib.Path(pulled["path"])
        self.assertEqual(path, self.models / "model-Q4_K_M/model-Q4_K_M.gguf")
        self.assertEqual(path.read_bytes(), data)
        self.assertEqual(pulled["sha256"], hashlib.sha256(data).hexdigest())
        self.assertEqual(pulled["source"], "127.0.0.1 some/model-GGUF:model-Q4_K_M.gguf")
        manifest = json.loads((path.parent / "model.json").read_text())
        self.assertEqual((manifest["file"], manifest["bytes"]), (path.name, len(data)))
        self.assertEqual([item.name for item in self.models.iterdir()], ["model-Q4_K_M"])
        [model] = self.listed_models()
        self.assertEqual((model["name"], model["bytes"], model["problem"]),
                         ("model-Q4_K_M", len(data), None))
        # Again: nothing is fetched.
        sent = self.hub.sent
        self.pull("some/model-GGUF")
        self.assertEqual(self.hub.sent, sent)
        # By its name, without the hub.
        self.hub.hook = lambda handler: handler.answer(500) or True
        self.assertEqual(self.pull("model-Q4_K_M")["path"], str(path))
        self.assertEqual(self.object("remove", "model-Q4_K_M", env=self.environment),
                         {"removed": "model-Q4_K_M"})
        self.assertEqual(list(self.models.iterdir()), [])

    def test_damaged_file_is_fetched_again(self):
        data = content(100_000)
        self.hub.add("some/model", {"m.gguf": data})
        path = pathlib.Path(self.pull("some/model")["path"])
        path.write_bytes(data[:-1] + b"x")
        self.assertEqual(pathlib.Path(self.pull("some/model")["path"]).read_bytes(), data)

    def test_folder(self):
        weights = {f"model-0000{i}-of-00002.safetensors": content(500_000, i) for i in (1, 2)}
        files = {"config.json": b'{"a": 1}', "tokenizer.json": b"{}", "merges.txt": b"",
                 "1_Pooling/config.json": b"{}",
                 "model.safetensors.index.json": b'{"weight_map": {}}', **weights}
        others = {"README.md": b"text", "pytorch_model.bin": content(1000),
                  "onnx/model.onnx": b"x", "2_Dense/model.safetensors": b"x",
                  "consolidated.safetensors": b"the same weights"}
        self.hub.add("some/Folder", files | others)
        self.hub.page_size = 3
        pulled = self.pull("some/Folder")
        folder = pathlib.Path(pulled["path"])
        self.assertEqual(folder, self.models / "Folder")
        here = {str(path.relative_to(folder)): path.read_bytes()
                for path in folder.rglob("*") if path.is_file()}
        manifest = json.loads(here.pop("model.json"))
        self.assertEqual(here, files)
        self.assertEqual({file["path"]: file["sha256"] for file in manifest["files"]},
                         {path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
        self.assertEqual(pulled["bytes"], sum(map(len, files.values())))
        self.assertIsNone(pulled["sha256"])
        self.assertEqual([model["path"] for model in self.listed_models()], [str(folder)])
        self.assertEqual(len([path for path, _ in self.hub.fetched("hub") if "/tree/" in path]), 5)

        # The hub's model changes: what is equal stays here.
        self.hub.sent = 0
        changed = content(500_000, 9)
        self.hub.add("some/Folder", files | {"model-00002-of-00002.safetensors": changed})
        self.pull("some/Folder")
        self.assertEqual((folder / "model-00002-of-00002.safetensors").read_bytes(), changed)
        self.assertEqual((folder / "config.json").read_bytes(), files["config.json"])
        self.assertEqual(self.hub.sent, len(changed))

        # What somebody else put there is theirs.
        (folder / "notes").write_text("mine")
        adze_program.run("remove", "Folder", env=self.environment)
        self.assertEqual([path.name for path in folder.iterdir()], ["notes"])
        self.assertEqual(self.listed_models(), [])

    def test_revision(self):
        self.hub.add("some/model", {"m.gguf": gguf(b"old")}, revision="v1")
        self.hub.add("some/model", {"m.gguf": gguf(b"proposed")}, revision="refs/pr/1")
        for revision, name in (("v1", b"old"), ("refs/pr/1", b"proposed")):
            pulled = self.pull(f"some/model@{revision}:m.gguf", "--name", name.decode())
            self.assertEqual(pathlib.Path(pulled["path"]).read_bytes(), gguf(name))
            self.assertEqual(pulled["source"], f"127.0.0.1 some/model@{revision}:m.gguf")
        self.refuse(["has no some/model"], "some/model")
        self.assertIn("/refs%2Fpr%2F1", " ".join(path for path, _ in self.hub.fetched("hub")))

    def test_choice(self):
        files = {"a-Q4_K_M.gguf": content(20_000, 1), "a-Q4_K_S.gguf": content(19_000, 2),
                 "a-IQ4_XS.gguf": content(18_000, 3), "b/a-Q8_0.gguf": content(40_000, 4),
                 "a-F16-00001-of-00002.gguf": b"x", "a-F16-00002-of-00002.gguf": b"x"}
        self.hub.add("some/many", files)
        message = self.refuse(["4 GGUF files", '"b/a-Q8_0.gguf" (0.0 MB)', ":FILE"], "some/many")
        self.assertNotIn("F16", message)
        for wanted, path in (("Q4_K_M", "a-Q4_K_M.gguf"), ("q4_k_s", "a-Q4_K_S.gguf"),
                             ("iq4_xs", "a-IQ4_XS.gguf"), ("b/a-Q8_0.gguf", "b/a-Q8_0.gguf"),
                             ("a-Q8_0", "b/a-Q8_0.gguf")):
            with self.subTest(wanted):
                pulled = self.pull(f"some/many:{wanted}")
                self.assertEqual(pathlib.Path(pulled["path"]).read_bytes(), files[path])
                self.assertEqual(pulled["name"], pathlib.Path(path).stem)
        self.refuse(['no GGUF file "Q4_K"', "a-Q4_K_M.gguf"], "some/many:Q4_K")
        self.refuse(["F16", "split", "not supported"], "some/many:F16")
        self.refuse(['did you mean "a-IQ4_XS.gguf"'], "some/many:a-IQ4_X.gguf")

    def test_a_person_is_asked(self):
        self.hub.add("some/many", {"a-Q4_0.gguf": content(10_000, 1),
                                   "a-Q8_0.gguf": content(20_000, 2)})
        terminal, program = pty.openpty()
        process = subprocess.Popen([ADZE, "pull", "some/many"], stdin=program, stderr=program,
                                   stdout=subprocess.PIPE, env=self.environment)
        self.addCleanup(process.stdout.close)
        os.close(program)
        self.addCleanup(os.close, terminal)
        shown = ""

        def read_until(part):
            nonlocal shown
            while part not in shown:
                self.assertTrue(select.select([terminal], [], [], 60)[0], shown)
                shown += os.read(terminal, 4096).decode()
        read_until("1 to 2?")
        self.assertIn("20.0 kB", shown)
        os.write(terminal, b"three\n")
        shown = ""
        read_until("1 to 2?")
        os.write(terminal, b"2\n")
        read_until("MB from")
        with contextlib.suppress(OSError):  # the terminal ends with the program
            while os.read(terminal, 4096):
                pass
        self.assertEqual(process.wait(timeout=60), 0)
        self.assertIn(b"a-Q8_0.gguf", process.stdout.read())

    def test_what_is_no_model(self):
        self.hub.add("some/pickles", {"config.json": b"{}", **dict.fromkeys(PICKLES, b"x")})
        self.refuse(["pickle", "safetensors", PICKLES[0]], "some/pickles")
        self.hub.add("some/text", {"README.md": b"text"})
        self.refuse(["neither a GGUF file nor"], "some/text")
        self.hub.add("some/bare", {"model.safetensors": b"x"})
        self.refuse(["no config.json"], "some/bare")
        self.hub.add("some/folder", {"model.safetensors": b"x", "config.json": b"{}"})
        self.refuse(["no GGUF files", "Q4_0"], "some/folder:Q4_0")
        self.assertEqual(self.hub.sent, 0)

    def test_names_that_are_taken(self):
        self.hub.add("some/model", {"config.json": b"{}", "model.safetensors": b"x"})
        self.hub.add("other/model", {"config.json": b"{}", "model.safetensors": b"y"})
        self.pull("some/model")
        self.refuse(["model", "some/model", "--name"], "other/model")
        self.assertEqual(self.pull("other/model", "--name", "second")["name"], "second")
        self.refuse(["smollm2-135m", "--name"], "some/model", "--name", "smollm2-135m")
        self.refuse(["../x"], "some/model", "--name", "../x", code=2)

    def test_words_that_are_no_name(self):
        for word in ("a/b/c", "../b", "a/../b", "/a/b", "a//b", "-a/b", "a/.b", "a b/c", "a/b@",
                     "a/b:", "a/b:../c", "a/b:c\\d", "a/b@..", "a/b@x//y", "https://host/a/b"):
            with self.subTest(word):
                self.refuse(["OWNER/NAME"], "--", word)
        self.refuse(["folder/none.gguf"], "folder/none.gguf")
        self.assertEqual(self.hub.requests, [])


class LocalPaths(Case):
    def test_folder(self):
        source = self.folder / "my model"
        files = {"config.json": b"{}", "tokenizer.json": b"[]", "model.safetensors": content(5000),
                 "1_Pooling/config.json": b"{ }"}
        for path, data in (files | {"optimizer.pt": b"x", "notes.txt": b"x"}).items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(data)
        pulled = self.pull(source)
        self.assertEqual((pulled["name"], pulled["source"]), ("my-model", str(source)))
        folder = pathlib.Path(pulled["path"])
        for path in files:
            self.assertTrue(os.path.samefile(folder / path, source / path), path)
        self.assertFalse((folder / "optimizer.pt").exists())
        self.assertEqual(self.pull(f"{source}/")["path"], pulled["path"])
        adze_program.run("remove", "my-model", env=self.environment)
        self.assertFalse(folder.exists())
        self.assertEqual({str(path.relative_to(source)) for path in source.rglob("*")
                          if path.is_file()}, set(files) | {"optimizer.pt", "notes.txt"})
        # A file of the source changes: pulled again, it is the new one.
        self.pull(source)
        (source / "config.json").write_bytes(b'{"changed": 1}')
        self.assertIn("config.json", self.listed_models()[0]["problem"])
        self.pull(source)
        self.assertIsNone(self.listed_models()[0]["problem"])
        self.assertEqual(self.hub.requests, [])

    def test_gguf(self):
        path = self.folder / "Some model.gguf"
        path.write_bytes(gguf())
        pulled = self.pull(path)
        self.assertEqual(pulled["name"], "Some-model")
        self.assertTrue(os.path.samefile(pulled["path"], path))
        adze_program.run("remove", "Some-model", env=self.environment)
        self.assertTrue(path.exists())

    def test_refusals(self):
        self.refuse(["neither a GGUF file nor"], self.folder)
        (self.folder / "a.gguf").write_bytes(gguf())
        self.refuse(["GGUF files and no config.json"], self.folder)
        pickles = self.folder / "pickles"
        pickles.mkdir()
        (pickles / "config.json").write_text("{}")
        (pickles / "pytorch_model.bin").write_text("x")
        self.refuse(["pickle", "pytorch_model.bin"], pickles)


class Interruptions(Case):
    def setUp(self):
        super().setUp()
        self.data = content(4_000_000)
        self.hub.add("some/model", {"m.gguf": self.data})

    def assert_whole(self, pulled):
        self.assertEqual(pathlib.Path(pulled["path"]).read_bytes(), self.data)
        self.assertEqual(self.parts(), {})

    def test_only_the_rest_is_sent(self):
        self.hub.cuts = [1_500_000]
        self.refuse(["127.0.0.1", "goes on from here"], "some/model", "--retries", 0)
        [(part, size)] = self.parts().items()
        self.assertEqual(part, ".m.part/m.gguf.part")
        self.assertGreater(size, 0)
        self.assertEqual(self.listed_models(), [])
        before = self.hub.sent
        self.assert_whole(self.pull("some/model", "--retries", 0))
        self.assertEqual(self.hub.sent - before, len(self.data) - size)
        headers = self.hub.fetched("cdn")[-1][1]
        self.assertEqual(headers["Range"], f"bytes={size}-")
        self.assertEqual(headers["If-Range"], f'"{hashlib.md5(self.data).hexdigest()}"')

    def test_broken_connections_are_resumed(self):
        self.hub.cuts = [1_200_000, 1_300_000, 300_000, 100_000]
        self.assert_whole(self.pull("some/model"))
        self.assertEqual(len(self.hub.fetched("cdn")), 5)

    def test_a_hub_that_knows_no_ranges(self):
        self.hub.cuts = [1_500_000]
        self.hub.ranges = False
        self.assert_whole(self.pull("some/model"))

    def test_a_hub_that_always_breaks_off(self):
        self.hub.cuts = [1000] * 100
        self.refuse(["broke 3 times"], "some/model", "--retries", 2)
        self.assertEqual(len(self.hub.fetched("cdn")), 3)

    def test_changed_content_begins_anew(self):
        self.hub.cuts = [1_500_000]
        self.refuse([], "some/model", "--retries", 0)
        self.data = content(4_000_000, 7)
        self.hub.add("some/model", {"m.gguf": self.data})
        self.hub.sent = 0
        self.assert_whole(self.pull("some/model"))
        self.assertEqual(self.hub.sent, len(self.data))

    def test_changed_entity_tag_begins_anew(self):
        """The list states no checksum: the tag alone tells that the content is another one."""
        self.hub.lies["m.gguf"] = {"lfs": None, "oid": None}
        self.hub.cuts = [1_500_000]
        self.refuse([], "some/model", "--retries", 0)
        size = sum(self.parts().values())
        self.hub.tag = "another"
        self.data = content(4_000_000, 7)
        self.hub.add("some/model", {"m.gguf": self.data})
        self.hub.sent = 0
        self.assert_whole(self.pull("some/model"))
        self.assertIn("Range", self.hub.fetched("cdn")[-1][1])
        self.assertEqual(self.hub.sent, len(self.data))
        self.assertGreater(size, 0)

    def test_part_without_its_record(self):
        self.hub.cuts = [1_500_000]
        self.refuse([], "some/model", "--retries", 0)
        (self.models / ".m.part/m.gguf.part.json").write_text("{")
        self.hub.sent = 0
        self.assert_whole(self.pull("some/model"))
        self.assertEqual(self.hub.sent, len(self.data))

    def test_damaged_part_is_found_out(self):
        self.hub.cuts = [1_500_000]
        self.refuse([], "some/model", "--retries", 0)
        part = self.models / ".m.part/m.gguf.part"
        part.write_bytes(bytes(part.stat().st_size))
        self.refuse(["damaged", "removed", "sha256"], "some/model")
        self.assertEqual(self.parts(), {})
        self.assert_whole(self.pull("some/model"))

    def interrupt(self, number):
        self.hub.delay = 0.02
        self.hub.sent = 0
        process = subprocess.Popen([ADZE, "pull", "some/model"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=self.environment)
        while self.hub.sent < 1_000_000:
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
        self.hub.delay = 0
        while self.hub.sending:  # to a client that is gone
            time.sleep(0.01)
        return process.returncode, message.decode()

    def test_interrupt_leaves_a_part(self):
        code, message = self.interrupt(signal.SIGINT)
        self.assertEqual(code, 1)
        self.assertIn("adze: [pull] stopped; the same command goes on from here", message)
        self.resume()

    def test_kill_leaves_a_part(self):
        self.assertEqual(self.interrupt(signal.SIGKILL)[0], -signal.SIGKILL)
        self.resume()

    def resume(self):
        [size] = self.parts().values()
        self.assertGreater(size, 500_000)
        self.hub.sent = 0
        self.assert_whole(self.pull("some/model"))
        self.assertEqual(self.hub.sent, len(self.data) - size)

    def test_remove_drops_what_is_unfinished(self):
        self.hub.cuts = [1_500_000]
        self.refuse([], "some/model", "--retries", 0)
        told = adze_program.run("list", env=self.environment).stderr.decode()
        self.assertRegex(told, r"m is unfinished, 1\.[0-9] MB are here")
        self.object("remove", "m", env=self.environment)
        told = adze_program.run("list", env=self.environment).stderr.decode()
        self.assertNotIn("unfinished", told)
        self.assertEqual(list(self.models.iterdir()), [])

    def test_one_at_a_time(self):
        self.hub.delay = 0.02
        process = subprocess.Popen([ADZE, "pull", "some/model"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env=self.environment)
        while self.hub.sent == 0:
            time.sleep(0.01)
        self.refuse(["another adze pull"], "some/model")
        self.assertEqual(process.wait(timeout=60), 0)
        self.assert_whole(self.pull("some/model"))

    def test_space_is_checked_first(self):
        self.hub.lies["m.gguf"] = {"lfs": {"oid": "0" * 64, "size": 900_000_000_000_000}}
        self.refuse(["900000016.8 MB free", "got"], "some/model")
        self.assertEqual(self.hub.sent, 0)


class Refusals(Case):
    def answer(self, *statuses, where="", **headers):
        """These statuses first, for paths that contain `where`; then as usual."""
        left = list(statuses)

        def hook(handler):
            if where not in handler.path or not left:
                return False
            handler.answer(left.pop(0), b"<html>no</html>", **headers)
            return True
        self.hub.hook = hook

    def setUp(self):
        super().setUp()
        self.hub.add("some/model", {"m.gguf": content(10_000)})

    def test_statuses(self):
        self.answer(401)
        self.refuse(["401", "gated", "HF_TOKEN"], "some/model")
        self.answer(403, where="/resolve/")
        self.refuse(["403", "m.gguf", "HF_TOKEN"], "some/model")
        del self.environment["HF_TOKEN"]
        self.answer(401)
        self.refuse(["set HF_TOKEN"], "some/model")
        self.hub.hook = None
        self.refuse(["has no some/modl"], "some/modl")
        self.answer(404, X_Error_Code="RevisionNotFound")
        self.refuse(["revision v9"], "some/model@v9")
        self.answer(418)
        self.refuse(["418"], "some/model")
        self.pull("some/model")
        self.refuse(["did you mean some/model?"], "some/modl")

    def test_busy_hub_is_asked_again(self):
        self.answer(429, 503, Retry_After="1")
        begin = time.monotonic()
        self.pull("some/model")
        self.assertGreater(time.monotonic() - begin, 1.9)
        self.answer(500, 502, where="/resolve/")
        self.pull("some/model", "--name", "again")
        self.answer(*[500] * 10)
        before = len(self.hub.requests)
        self.refuse(["500", "3 attempts"], "some/model", "--retries", 2)
        self.assertEqual(len(self.hub.requests) - before, 3)
        before = len(self.hub.requests)
        self.answer(*[429] * 10)
        self.refuse(["429", "1 attempts"], "some/model", "--retries", 0)
        self.assertEqual(len(self.hub.requests) - before, 1)

    def test_waiting_can_be_interrupted(self):
        self.answer(*[503] * 10, Retry_After="60")
        process = subprocess.Popen([ADZE, "pull", "some/model"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=self.environment)
        while not self.hub.requests:
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"stopped", message)

    def test_options(self):
        self.refuse(["timeout", "1 to 3600", "0"], "some/model", "--timeout", 0, code=2)
        self.refuse(["retries", "0 to 20", "21"], "some/model", "--retries", 21, code=2)

    def test_no_network(self):
        unused = socket.socket()
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses connections
        self.addCleanup(unused.close)
        self.environment["HF_ENDPOINT"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        self.refuse(["cannot reach 127.0.0.1", "adze list", "adze pull smollm2-135m",
                     "adze pull PATH"], "some/model")
        self.environment["HF_ENDPOINT"] = "https://no-such-host.invalid"
        self.refuse(["cannot reach no-such-host.invalid"], "some/model")

    def test_endpoint_and_token(self):
        for endpoint in ("host", "ftp://host", "https://user:word@host", "https://host?x",
                         "https://"):
            self.environment["HF_ENDPOINT"] = endpoint
            self.refuse(["HF_ENDPOINT", "https://HOST"], "some/model")
        self.environment["HF_ENDPOINT"] = self.hub.endpoint + "/"
        self.environment["HF_TOKEN"] = "a\r\nX-Other: b"
        self.assertNotIn("X-Other", self.refuse(["HF_TOKEN"], "some/model"))
        self.environment["HF_TOKEN"] = TOKEN
        self.pull("some/model")

    def test_stalls(self):
        def stall(where, after):
            def hook(handler):
                if where not in handler.path:
                    return False
                handler.send_response(200)
                handler.send_header("Content-Length", "10000")
                handler.end_headers()
                handler.wfile.write(content(10_000)[:after])
                handler.wfile.flush()
                time.sleep(20)
                return True
            self.hub.hook = hook

        for where, after in (("/tree/", 0), ("/tree/", 5), ("/resolve/", 0), ("/resolve/", 4000)):
            with self.subTest(where=where, after=after):
                stall(where, after)
                begin = time.monotonic()
                self.refuse(["127.0.0.1", "--timeout"], "some/model", "--timeout", 1)
                self.assertLess(time.monotonic() - begin, 10)
        self.hub.hook = None
        self.hub.sent = 0
        self.pull("some/model")
        self.assertLessEqual(self.hub.sent, 10_000)

    def test_dripping_list(self):
        def hook(handler):
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(200):
                    handler.wfile.write(b" ")
                    time.sleep(0.1)
            handler.close_connection = True
            return True
        self.hub.hook = hook
        begin = time.monotonic()
        self.refuse(["--timeout"], "some/model", "--timeout", 1)
        self.assertLess(time.monotonic() - begin, 10)

    def test_endless_answers(self):
        def endless(where, status, line):
            def hook(handler):
                if where not in handler.path:
                    return False
                if line is None:
                    handler.send_response(status)
                    handler.end_headers()
                else:
                    handler.wfile.write(b"HTTP/1.1 %d OK\r\n" % status)
                handler.close_connection = True
                with contextlib.suppress(OSError):
                    while True:
                        handler.wfile.write(line or b"[" * 65536)
                return True
            self.hub.hook = hook

        header = b"X-Header: " + b"x" * 4000 + b"\r\n"
        for where, status, line, part in (("/tree/", 200, None, "at most 8388608 bytes"),
                                          ("/resolve/", 200, None, "expected 10000 bytes"),
                                          ("/tree/", 404, None, "has no some/model"),
                                          ("/resolve/", 403, None, "403"),
                                          ("/tree/", 200, header, "headers")):
            with self.subTest(where=where, status=status, part=part):
                endless(where, status, line)
                self.refuse([part], "some/model")

    def test_lists_that_are_none(self):
        deep = b"[" * 100_000
        for body, part in ((b"", "JSON"), (b"<html>", "JSON"), (b"{}", "list of files"),
                           (b'{"error": "x"}', "list of files"), (b"[1]", "objects"),
                           (deep, "64 levels"), (b'[{"type": "file"}]', "file names"),
                           (b'[{"type": "file", "path": "a.gguf"}]', "size"),
                           (b'[{"type": "file", "path": "a.gguf", "size": -1}]', "size"),
                           (b'[{"type": "file", "path": "a.gguf", "size": 1e30}]', "size"),
                           (b'[{"type": "file", "path": "a.gguf", "size": 1, "oid": "x"}]',
                            "checksum"),
                           (b'[{"type": "file", "path": "a", "size": 1},'
                            b' {"type": "file", "path": "a", "size": 1}]', "twice"),
                           (b"[]", "neither")):
            with self.subTest(body[:60]):
                self.hub.hook = lambda handler, body=body: handler.answer(200, body) or True
                self.refuse([part], "some/model")

    def test_pages(self):
        def following(address):
            def hook(handler):
                handler.answer(200, b"[]", Link=f'<{address}>; rel="next"')
                return True
            self.hub.hook = hook
        following(self.hub.cdn_endpoint + "/api")
        self.refuse(["next page"], "some/model")
        self.assertEqual(self.hub.fetched("cdn"), [])
        following(self.hub.endpoint + "/api")
        self.refuse(["at most 1000 pages"], "some/model")

    def test_names_that_leave_the_folder(self):
        for path in ("../m.gguf", "a/../../m.gguf", "/tmp/m.gguf", "..\\m.gguf", "a\nb.gguf", "",
                     ".", "a//m.gguf", "m\x00.gguf", "\x1b[31m.gguf", "a" * 300 + ".gguf"):
            with self.subTest(path):
                self.hub.add("some/model", {path: b"x"})
                message = self.refuse(["file names that stay"], "some/model")
                self.assertNotRegex(message, r"[\x00-\x1f]")
        self.assertEqual(self.hub.sent, 0)

    def test_wrong_checksums(self):
        self.hub.lies["m.gguf"] = {"lfs": {"oid": "0" * 64, "size": 10_000}}
        self.refuse(["sha256", "0" * 64, hashlib.sha256(content(10_000)).hexdigest()],
                    "some/model")
        self.assertEqual(self.parts(), {})
        self.hub.add("some/folder", {"config.json": b"{}", "model.safetensors": b"x"})
        self.hub.lies["config.json"] = {"oid": "0" * 40}
        self.refuse(["git object", "0" * 40, git_blob(b"{}")], "some/folder")
        self.assertEqual(self.parts(), {})
        self.assertEqual(self.listed_models(), [])

    def test_wrong_sizes(self):
        for size in (9_999, 10_001, 0):
            self.hub.lies["m.gguf"] = {
                "lfs": {"oid": hashlib.sha256(content(10_000)).hexdigest(), "size": size}}
            self.refuse(["m.gguf"], "some/model")
        self.assertEqual(self.listed_models(), [])

    def test_ranges_of_something_else(self):
        for header in ("bytes 0-9999/10000", "bytes 9000-9999/10000", "bytes 4000-9999/20000",
                       "bytes 4000-", "lines 4000-9999/10000", "bytes 5-4/10000", ""):
            with self.subTest(header):
                shutil.rmtree(self.models, ignore_errors=True)
                self.hub.hook = None
                self.hub.cuts = [4000]
                self.refuse([], "some/model", "--retries", 0)

                def hook(handler, header=header):
                    if "Range" not in handler.headers or handler.server.role != "cdn":
                        return False
                    tag = hashlib.md5(content(10_000)).hexdigest()
                    handler.answer(206, content(6000), Content_Range=header, ETag=f'"{tag}"')
                    return True
                self.hub.hook = hook
                self.refuse(["m.gguf" if "20000" in header else "expected"], "some/model",
                            "--retries", 0)
                self.assertEqual(self.listed_models(), [])


class Redirects(Case):
    def setUp(self):
        super().setUp()
        self.hub.add("some/model", {"m.gguf": content(10_000)})

    def redirect(self, address):
        def hook(handler):
            if "/resolve/" not in handler.path:
                return False
            handler.answer(302, b"", Location=address)
            return True
        self.hub.hook = hook

    def test_the_token_stays_with_its_host(self):
        self.pull("some/model")
        for _, headers in self.hub.fetched("hub"):
            self.assertEqual(headers["Authorization"], f"Bearer {TOKEN}")
        self.assertEqual(len(self.hub.fetched("cdn")), 1)
        for _, headers in self.hub.fetched("cdn"):
            self.assertNotIn("Authorization", headers)
            self.assertNotIn(TOKEN, str(headers))

    def test_the_token_never_goes_over_plain_http(self):
        """Through a proxy, so that another host can be named: the proxy would see it."""
        self.environment["HF_ENDPOINT"] = "http://hub.example"
        self.environment["http_proxy"] = self.hub.endpoint
        seen = []

        def hook(handler):
            seen.append((handler.path, dict(handler.headers)))
            handler.answer(401)
            return True
        self.hub.hook = hook
        self.refuse(["not sent over plain http"], "some/model")
        self.assertTrue(seen[0][0].startswith("http://hub.example/api/models/"), seen)
        self.assertNotIn(TOKEN, str(seen))

    def test_loops_and_other_protocols(self):
        self.redirect(f"{self.hub.endpoint}/some/model/resolve/main/m.gguf")
        self.refuse(["redirects more than 8 times"], "some/model")
        for address in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"):
            self.redirect(address)
            self.refuse(["redirects", address.split(":", maxsplit=1)[0]], "some/model")
        self.redirect("http://")
        self.refuse([], "some/model")


class Tls(Case):
    def setUp(self):
        super().setUp()
        if shutil.which("openssl") is None:
            self.skipTest("no openssl program")
        certificate = self.folder / "certificate.pem"
        key = self.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        both = self.folder / "both.pem"
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        self.certificate = certificate
        self.plain = self.hub
        self.hub = Hub(both)
        self.addCleanup(self.hub.stop)
        self.hub.add("some/model", {"m.gguf": content(10_000)})
        self.environment["HF_ENDPOINT"] = self.hub.endpoint

    def test_certificates(self):
        self.environment.pop("SSL_CERT_FILE", None)
        self.refuse(["no trusted connection to 127.0.0.1", "certificate", "SSL_CERT_FILE"],
                    "some/model")
        self.assertEqual(self.hub.requests, [])
        self.environment["SSL_CERT_FILE"] = str(self.certificate)
        pulled = self.pull("some/model")
        self.assertEqual(pathlib.Path(pulled["path"]).read_bytes(), content(10_000))
        self.environment["SSL_CERT_FILE"] = str(self.folder / "missing.pem")
        self.refuse(["no trusted connection", "missing.pem"], "some/model")

    def test_no_way_back_to_plain_http(self):
        self.environment["SSL_CERT_FILE"] = str(self.certificate)

        def hook(handler):
            if "/resolve/" not in handler.path:
                return False
            handler.answer(302, b"", Location=f"{self.plain.endpoint}/x")
            return True
        self.hub.hook = hook
        self.refuse(["redirects from https to", "http://"], "some/model")
        self.assertEqual(self.plain.requests, [])


if __name__ == "__main__":
    unittest.main()
