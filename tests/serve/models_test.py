"""Several models behind one server: loaded when asked for, unloaded for one another, adapters, an encoder;
whose turn it is, and what happens at the end. Python's standard library alone."""

import array
import concurrent.futures
import json
import math
import pathlib
import shutil
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import adze_program
from adze_server import CHAT, COMPLETIONS, EMBEDDINGS, Server, user
from server_test import ENDLESS, GREEDY, STORY, Case, in_parallel

SIZE, LAYERS = 576, 30  # of the default model
LONG = "word " * 400


def write_adapter(folder, scale, seed):
    """A LoRA adapter of rank 1 over the output of attention, in PEFT's format. Scale 0 changes nothing."""
    state, tensors, data = seed, {}, b""

    def draw():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state >> 11) / (1 << 52) - 1

    for layer in range(0, LAYERS, 5):
        for part, shape, size in (("A", [1, SIZE], 1 / math.sqrt(SIZE)), ("B", [SIZE, 1], scale)):
            values = array.array("f", [draw() * size for _ in range(SIZE)]).tobytes()
            tensors[f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_{part}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
            data += values
    header = json.dumps(tensors).encode()
    header += b" " * (-len(header) % 8)
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["o_proj"],
        "layers_to_transform": list(range(0, LAYERS, 5))}))
    return folder


def listed(server):
    return {model["id"]: model for model in server.get("/v1/models").json["data"]}


def cosine(left, right):
    return sum(x * y for x, y in zip(left, right, strict=True))


class Adapters(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-lora-"))
        adapters = {"still": (0, 1), "loud": (4, 2), "other": (4, 3)}
        arguments = []
        for adapter, (scale, seed) in adapters.items():
            arguments += ["--lora", f"{adapter}={write_adapter(cls.folder / adapter, scale, seed)}"]
        cls.server = Server(*arguments).__enter__()
        cls.base = next(iter(listed(cls.server)))

    @classmethod
    def tearDownClass(cls):
        cls.server.wait_idle()
        cls.server.__exit__(None, None, None)
        shutil.rmtree(cls.folder)

    def ask(self, model, number=0):
        return self.assert_ok(self.server.complete(f"{number} {STORY}", model=model, max_tokens=24, **GREEDY))

    def test_listed_with_their_model(self):
        models = listed(self.server)
        self.assertEqual(list(models), [self.base, "still", "loud", "other"])
        self.assertIsNone(models[self.base]["adze"]["parent"])
        for adapter in ("still", "loud", "other"):
            self.assertEqual(models[adapter]["adze"]["parent"], self.base)
            self.assertTrue(models[adapter]["adze"]["loaded"])

    def test_chosen_by_name(self):
        texts = {model: self.ask(model, 7) for model in (self.base, "still", "loud", "other")}
        self.assertEqual(texts["still"].text, texts[self.base].text)
        self.assertEqual(len({reply.text for reply in texts.values()}), 3)
        for model, reply in texts.items():
            self.assertEqual(reply.json["model"], model)
            self.assertEqual(reply.json["usage"]["prompt_tokens_details"]["cached_tokens"], 0)

    def test_at_once(self):
        jobs = [(model, number) for number in range(3) for model in (self.base, "still", "loud", "other")]
        alone = [self.ask(*job).text for job in jobs]
        together = in_parallel([lambda job=job: self.ask(*job).text for job in jobs])
        self.assertEqual(together, alone)

    def test_embeddings(self):
        vectors = {model: self.assert_ok(self.server.post(EMBEDDINGS, {"model": model, "input": STORY}))
                   .json["data"][0]["embedding"] for model in (self.base, "still", "loud")}
        self.assertEqual(vectors["still"], vectors[self.base])
        self.assertLess(cosine(vectors["loud"], vectors[self.base]), 0.9999)

    def test_names_are_their_own(self):
        for names in (["still", "still"], [self.base]):
            arguments = [part for adapter in names
                         for part in ("--lora", f"{adapter}={self.folder / 'still'}")]
            result = adze_program.run("serve", "--port", 0, *arguments, timeout=60)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(b"[lora]", result.stderr)


class Several(Case):
    """Two names of one file, and memory for one of them."""

    def test_loaded_and_unloaded(self):
        path = adze_program.default_model()
        with Server("--model", f"second={path}", "--cache-gib", 0.1, "--memory-gib", 0.3,
                    model=f"first={path}") as server:
            models = listed(server)
            self.assertEqual([model["adze"]["loaded"] for model in models.values()], [True, False])
            for model in models.values():  # known without loading
                self.assertEqual((model["adze"]["kind"], model["adze"]["layers"]), ("generator", LAYERS))
                self.assertGreater(model["adze"]["context"], 1000)
            first = self.assert_ok(server.complete("One, two,", max_tokens=8, **GREEDY))
            self.assertEqual(first.json["model"], "first")
            second = self.assert_ok(server.complete("One, two,", model="second", max_tokens=8, **GREEDY))
            self.assertEqual(second.text, first.text)
            self.assertEqual([model["adze"]["loaded"] for model in listed(server).values()], [False, True])
            with server.stream(CHAT, {"model": "second", "messages": user("Hi"), "max_tokens": 4000, **ENDLESS}) as busy:
                next(iter(busy))
                refused = server.complete("One, two,", model="first", max_tokens=8)
                self.assert_error(refused, 503, "memory", code="no_memory")
                self.assertGreaterEqual(int(refused.headers["retry-after"]), 1)
                # Without a name it is the first model, loaded or not.
                self.assert_error(server.complete("One, two,", max_tokens=8), 503, code="no_memory")
                self.assertEqual(server.get("/health").status, 200)
            server.wait_idle()
            self.assertEqual(self.assert_ok(server.complete("One, two,", max_tokens=8, **GREEDY)).text, first.text)
            self.assertEqual([model["adze"]["loaded"] for model in listed(server).values()], [True, False])

    def test_figures_of_unloaded_models_go(self):
        path = adze_program.default_model()
        with Server("--model", f"second={path}", "--cache-gib", 0.1, "--memory-gib", 0.3,
                    model=f"first={path}") as server:
            self.assert_ok(server.complete("One, two,", max_tokens=2))
            for loaded, other in (("second", "first"), ("first", "second")):
                self.assert_ok(server.complete("One, two,", model=loaded, max_tokens=2))
                gauges = [line for line in server.metrics() if 'model="' in line]
                self.assertGreater(len(gauges), 5)
                self.assertEqual([line for line in gauges if f'"{other}"' in line], [])

    def test_a_damaged_model_hurts_nobody_else(self):
        """One that cannot be read at all, and one whose header is sound and whose weights end too soon."""
        path = adze_program.default_model()
        with tempfile.TemporaryDirectory() as folder:
            whole = path.read_bytes()
            scrap, short = pathlib.Path(folder, "scrap.gguf"), pathlib.Path(folder, "short.gguf")
            scrap.write_bytes(b"GGUF" + bytes(1000))
            short.write_bytes(whole)
            with Server("--model", f"scrap={scrap}", "--model", f"short={short}", "--cache-gib", 0.1,
                        model=f"sound={path}") as server:
                short.write_bytes(whole[:len(whole) // 2])
                for name in ("scrap", "short"):
                    for _ in range(2):
                        reply = server.complete("One, two,", model=name, max_tokens=4)
                        error = self.assert_error(reply, 500, name, "log", code="model_unreadable")
                        self.assertNotIn(folder, json.dumps(error))  # no stranger's business
                        self.assertEqual(server.chat("Hi", model=name, session="s").status, 500)
                    self.assertIn(f"fault: [model] {name}", server.log)
                self.assertEqual([model["adze"]["loaded"] for model in listed(server).values()], [True, False, False])
                self.assert_ok(server.complete("One, two,", max_tokens=4))
                self.assertEqual(server.get("/v1/sessions").json["data"], [])
                short.write_bytes(whole)  # mended
                self.assert_ok(server.complete("One, two,", model="short", max_tokens=4))

    def test_memory_for_none(self):
        result = adze_program.run("serve", "--port", 0, "--cache-gib", 0.1, "--memory-gib", 0.15, timeout=60)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn(b"[memory-gib]", result.stderr)

    def test_models_take_turns(self):
        path = adze_program.default_model()
        with Server("--model", f"second={path}", "--cache-gib", 0.2, model=f"first={path}") as server:
            server.complete("One", model="second", max_tokens=1)
            got, over = {"first": 0, "second": 0}, threading.Event()

            def read(name):
                with server.stream(COMPLETIONS, {"model": name, "prompt": "Go on", "max_tokens": 150, **ENDLESS}) as stream:
                    for _ in stream:
                        if over.is_set():
                            return
                        got[name] += 1
                over.set()

            in_parallel([lambda name=name: read(name) for name in got])
            self.assertGreater(min(got.values()), max(got.values()) / 2, got)

    def test_embeddings_keep_no_model_from_loading(self):
        path = adze_program.default_model()
        with Server("--model", f"second={path}", "--cache-gib", 0.1, model=f"first={path}") as server:
            body = {"input": [LONG] * 200, "timeout_seconds": 10}
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                busy = [pool.submit(server.post, EMBEDDINGS, body) for _ in range(2)]
                time.sleep(1)
                self.assert_ok(server.complete("One", model="second", max_tokens=1))
                self.assertFalse([future for future in busy if future.done()])

    def test_configuration_file(self):
        path = adze_program.default_model()
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "serve.json"
            file.write_text(json.dumps({"model": [f"alpha={path}", f"beta={path}"], "cache-gib": 0.1, "context": 600}))
            process = subprocess.Popen([adze_program.ADZE, "serve", "--config", file, "--port", "0"],
                                       stderr=subprocess.PIPE, text=True)
            try:
                address = next(line.split()[-1] for line in process.stderr if "listening" in line)
                host, port = address.removeprefix("http://").split(":")
                server = Server()
                server.host, server.port = host, int(port)
                self.assertEqual([(name, model["adze"]["context"]) for name, model in listed(server).items()],
                                 [("alpha", 600), ("beta", 600)])
                shutil.rmtree(server.folder)
            finally:
                process.terminate()
                self.assertEqual(process.wait(30), 0)
                process.stderr.close()

    def test_a_small_cache_shortens_the_default_answer(self):
        """Without max_tokens an answer may be as long as the cache holds; it is no error."""
        with Server("--cache-gib", 0.03) as server:
            self.assertIn("the cache holds no more", server.log)
            model, = listed(server).values()
            context = model["adze"]["context"]
            self.assertLess(context, 2000)
            self.assert_ok(server.complete("One, two,", stop=["five", "seven"], **GREEDY))
            for fields in ({"kv_store": "f32"}, {"kv_policy": "window:sinks=4,window=60"}):
                self.assert_ok(server.complete("One, two,", stop=["five", "seven"], **GREEDY, **fields))
            self.assert_error(server.complete("One, two,", max_tokens=context, **ENDLESS), 400, "max_tokens")


class Encoder(Case):
    MODEL = "all-minilm-l6-v2"

    def setUp(self):
        names = json.loads(adze_program.run("list", "--json").stdout.splitlines()[-1])["models"]
        if self.MODEL not in [model["name"] for model in names]:
            self.skipTest(f"{self.MODEL} is not here; adze pull {self.MODEL} fetches it")

    def test_embeddings(self):
        texts = ["A cat sat on the mat.", "A kitten rested on a rug.", "Interest rates rose again.", "x " * 200]
        with Server("--model", self.MODEL, "--cache-gib", 0.1) as server:
            encoder = listed(server)[self.MODEL]["adze"]
            self.assertEqual((encoder["loaded"], encoder["kind"]), (False, "encoder"))
            reply = self.assert_ok(server.post(EMBEDDINGS, {"model": self.MODEL, "input": texts})).json
            vectors = [row["embedding"] for row in reply["data"]]
            self.assertEqual({len(vector) for vector in vectors}, {384})
            for vector in vectors:
                self.assertAlmostEqual(cosine(vector, vector), 1, places=5)
            self.assertGreater(cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[2]) + 0.3)
            for text, vector in zip(texts, vectors):  # alone as together
                alone = server.post(EMBEDDINGS, {"model": self.MODEL, "input": text}).json["data"][0]["embedding"]
                self.assertEqual(alone, vector)
            # The command gives the same.
            result = adze_program.run("embed", "--model", self.MODEL, "--compute", "f32", "--json", "--text", texts[0])
            if result.returncode == 0:
                found = json.loads(result.stdout.splitlines()[-1])
                self.assertIn(json.dumps(vectors[0][0])[:6], json.dumps(found))
            self.assert_error(server.chat("Hi", model=self.MODEL, max_tokens=1), 400, "embeddings")
            self.assert_error(server.post(EMBEDDINGS, {"model": self.MODEL, "input": "word " * 600}), 400,
                              code="context_length_exceeded")

    def test_mean_of_a_decoder(self):
        """Of a model that was not trained to embed it is the mean; like texts are more alike."""
        texts = ["The cat sat on the mat.", "The cat sat on the rug.", "def main(): return 17"]
        with Server("--cache-gib", 0.1) as server:
            data = self.assert_ok(server.post(EMBEDDINGS, {"input": texts})).json["data"]
            first, second, other = (row["embedding"] for row in data)
            self.assertEqual(len(first), SIZE)
            self.assertGreater(cosine(first, second), cosine(first, other))


class Embeddings(Case):
    """Beside a chat, in chunks; given up when nobody waits any more."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-queue", 3).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.wait_idle()
        cls.server.__exit__(None, None, None)

    def test_a_chat_goes_on(self):
        done, seen = threading.Event(), 0

        def embed():
            self.assert_ok(self.server.post(EMBEDDINGS, {"input": [LONG] * 12}))
            done.set()

        with self.server.stream(COMPLETIONS, {"prompt": "Go on", "max_tokens": 4000, **ENDLESS}) as stream:
            events = iter(stream)
            next(events)
            thread = threading.Thread(target=embed)
            thread.start()
            while not done.is_set():
                next(events)
                seen += 1
            thread.join()
        self.assertGreaterEqual(seen, 10)  # about one a pass; held up, it would be one or two

    def test_deadline(self):
        start = time.monotonic()
        reply = self.server.post(EMBEDDINGS, {"input": [LONG] * 100, "timeout_seconds": 0.5})
        self.assert_error(reply, 504, code="timeout")
        self.assertLess(time.monotonic() - start, 10)

    def test_many_wait(self):
        replies = in_parallel([lambda: self.server.post(EMBEDDINGS, {"input": [LONG] * 8})] * 8)
        self.assertEqual({reply.status for reply in replies}, {200, 429})
        for reply in replies:
            if reply.status == 429:
                self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)

    def test_a_client_that_leaves(self):
        body = json.dumps({"input": [LONG] * 200}).encode()
        for _ in range(3):  # as many as may wait: they do not block the next
            with self.server.socket() as connection:
                connection.sendall(f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: localhost\r\n"
                                   f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                time.sleep(0.3)
        end = time.monotonic() + 10
        while (reply := self.server.post(EMBEDDINGS, {"input": "x"})).status == 429 and time.monotonic() < end:
            time.sleep(0.2)
        self.assert_ok(reply)


class End(Case):
    def test_answers_that_take_too_long_are_told(self):
        server = Server("--drain-seconds", 0.3).__enter__()
        try:
            with server.stream(COMPLETIONS, {"prompt": "Go on", "max_tokens": 8000, **ENDLESS}) as stream:
                events = iter(stream)
                next(events)
                embedding = threading.Thread(target=server.post, args=(EMBEDDINGS, {"input": [LONG] * 200}))
                embedding.start()
                time.sleep(0.3)
                start = time.monotonic()
                server.process.terminate()
                rest = list(events)
                self.assertEqual(rest[-1]["error"]["code"], "draining")
            server.process.wait(20)
            self.assertLess(time.monotonic() - start, 15)
            self.assertEqual(server.process.returncode, 1)  # not all of it ended
            embedding.join(10)
        finally:
            server.__exit__(AssertionError)


def setUpModule():
    adze_program.default_model()


if __name__ == "__main__":
    unittest.main()
