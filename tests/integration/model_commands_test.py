"""generate, chat and perplexity on the default model, as a user calls them: results, messages,
exit codes, and what happens to them when a user, a disk or a file misbehaves."""

import json
import os
import pathlib
import random
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

import adze_program
from adze_program import ADZE, run

GREEDY = ["--temperature", 0, "--threads", 1]
# The model's two end tokens never come: an answer goes on until something else ends it.
ENDLESS = ["--logit-bias", "0:-inf", "2:-inf", "--max-tokens", 4000]
GENERATE_KEYS = {"text": str, "prompt_tokens": int, "tokens": int,
                 "prefill_tokens_per_second": (int, float), "decode_tokens_per_second": (int, float)}


class Case(adze_program.Case):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-model-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)


class Generate(Case):
    def test_object_and_plain_text_agree(self):
        prompt = "Which animals live in the sea near Iceland, and what do they eat in winter?"
        arguments = ["generate", "--prompt", prompt, "--max-tokens", 12, "--seed", 7,
                     "--temperature", 0.8]
        result = self.object(*arguments, "--threads", 2)
        for key, kind in GENERATE_KEYS.items():
            self.assertIsInstance(result[key], kind, key)
        self.assertGreater(result["prompt_tokens"], 16)
        self.assertLessEqual(result["tokens"], 12)
        self.assertGreater(result["prefill_tokens_per_second"], 0)
        self.assertGreater(result["decode_tokens_per_second"], 0)
        self.assertNotIn(prompt, result["text"])
        plain = run(*arguments, "--threads", 1)
        self.assert_succeeds(plain)
        self.assertEqual(plain.stdout.decode(), result["text"] + "\n")

    def test_raw_continues_and_does_not_repeat_the_prompt(self):
        prompt = "One, two, three, four, five,"
        raw = self.object("generate", "--raw", "--prompt", prompt, "--max-tokens", 8, *GREEDY)
        self.assertIn("six", raw["text"])
        self.assertNotIn(prompt, raw["text"])
        framed = self.object("generate", "--prompt", prompt, "--max-tokens", 1, *GREEDY)
        self.assertGreater(framed["prompt_tokens"], raw["prompt_tokens"])

    def test_prompts_from_files(self):
        path = self.folder / "prompt"
        path.write_text("One, two, three, four, five,")
        arguments = ["generate", "--raw", "--max-tokens", 4, *GREEDY]
        expected = self.object(*arguments, "--prompt", path.read_text())["text"]
        self.assertEqual(self.object(*arguments, "--file", path)["text"], expected)
        self.assertEqual(
            self.object(*arguments, "--file", "-", text=path.read_bytes())["text"], expected)

    def test_stop_strings_and_limits(self):
        arguments = ["generate", "--raw", "--prompt", "One, two, three, four, five,", *GREEDY]
        result = self.object(*arguments, "--max-tokens", 30, "--stop", " eight")
        self.assertTrue(result["text"].endswith("seven,"), result["text"])
        self.assertEqual(self.object(*arguments, "--max-tokens", 1)["tokens"], 1)

    def test_any_bytes_are_a_prompt(self):
        path = self.folder / "prompt"
        path.write_bytes(bytes(range(256)))
        for form in ([], ["--raw"]):
            self.object("generate", "--file", path, "--max-tokens", 2, *form, *GREEDY)

    def test_text_longer_than_the_context(self):
        words = "word " * 200
        for form in ([], ["--raw"]):
            self.assert_refused(1, ["context", "64", "/reset", "--context", "--kv-policy"],
                                "generate", "--prompt", words, "--context", 64, *form)
        result = self.object("generate", "--prompt", "Tell me a story.", "--context", 48, *GREEDY,
                             "--logit-bias", "0:-inf", "2:-inf")
        self.assertEqual(result["finish_reason"], "context")
        window = self.object("generate", "--prompt", words, "--context", 128, "--kv-policy",
                             "window:sinks=4,window=60", "--max-tokens", 3, *GREEDY)
        self.assertGreater(window["prompt_tokens"], 200)
        self.assertLess(window["cached_tokens"], 96)

    def test_a_window_larger_than_the_context(self):
        """Either refused before anything is computed, or obeyed; never out of cache half way."""
        result = run("generate", "--raw", "--prompt", "word " * 600, "--context", 64, "--kv-policy",
                     "window:window=1000", "--max-tokens", 2, *GREEDY)
        if result.returncode != 0:
            self.assertNotIn(b"[cache]", result.stderr)
            self.assertIn(b"context", result.stderr)

    def test_a_reader_that_leaves(self):
        process = subprocess.Popen([ADZE, "generate", "--prompt", "Tell me a story.",
                                    *map(str, ENDLESS)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        self.assertTrue(process.stdout.read(1))
        process.stdout.close()
        message = process.stderr.read().decode()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=120), 1, message)
        self.assertIn("[stdout] cannot write", message)
        with open("/dev/full", "wb") as full:
            refused = subprocess.run([ADZE, "generate", "--prompt", "Hello", "--max-tokens", "2"],
                                     stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(b"[stdout] cannot write", refused.stderr)


class Choices(Case):
    def turns(self, *turns):
        path = self.folder / "turns.jsonl"
        path.write_text("\n".join(map(json.dumps, turns)) + "\n\n")
        return path

    def test_streams_grow_turn_by_turn(self):
        count = {"text": "One, two, three, four, five,", "choices": [" dog", " six"], "answer": 1}
        path = self.turns(count | {"stream": 1},
                          {"stream": 1, "text": ", seven, eight,", "choices": [" blue cars", " nine, ten"], "answer": 1},
                          {"stream": 1, "text": " and then"},
                          count | {"stream": "1"})
        result = self.object("choices", "--file", path, "--threads", 1)
        first, second, third, other = result["turns"]
        self.assertEqual([turn["chosen"] for turn in result["turns"]], [1, 1, -1, 1])
        self.assertEqual(result["answered"], 3)
        self.assertEqual(result["accuracy"], 1)
        self.assertEqual(result["answered_after_eviction"], 0)
        self.assertEqual(first, other)  # a new stream starts anew
        self.assertGreater(second["tokens"], first["tokens"] + 1)
        self.assertGreater(third["tokens"], second["tokens"] + 3)
        self.assertEqual(second["attended"], second["tokens"])

    def test_a_cache_that_forgets(self):
        path = self.turns(*({"text": "word " * 30, "choices": ["A", "B"], "answer": 0} for _ in range(4)))
        result = self.object("choices", "--file", path, "--kv-policy", "sirllm:tokens=64", "--context", 64)
        self.assertGreater(result["answered_after_eviction"], 0)
        self.assertLess(max(turn["attended"] for turn in result["turns"]), 65)
        self.assertIn("4 turns", run("choices", "--file", path, "--context", 400).stdout.decode())
        self.assert_refused(1, ["context", "16"], "choices", "--file", path, "--context", 16)

    def test_refuses_what_is_not_a_turn(self):
        for turn, part in [({"choices": ["A"]}, "text"), ([], "text"), ({"text": 1}, "text"),
                           ({"text": "a", "choices": "A"}, "choices"), ({"text": "a", "choices": [""]}, "choices"),
                           ({"text": "a", "choices": ["A"], "answer": 1}, "answer"),
                           ({"text": "a", "answer": 0}, "answer"), ({"text": "a", "stream": []}, "stream")]:
            self.assert_refused(1, ["line 2", part], "choices", "--file", self.turns({"text": "a"}, turn))
        self.assert_refused(1, ["at least one turn"], "choices", "--file", self.turns())
        self.assert_refused(2, ["--file"], "choices")


class Refusals(Case):
    def test_usage(self):
        def refuse(parts, *arguments):
            self.assert_refused(2, parts, "generate", "--prompt", "x", *arguments)

        refuse(["--temprature", "did you mean --temperature?"], "--temprature", 1)
        refuse(["--kv-polcy", "did you mean --kv-policy?"], "--kv-polcy", "full")
        for value in (-1, 101, "nan", "inf"):
            refuse(["temperature", "0 to 100", value], "--temperature", value)
        refuse(["temperature", "a number", "warm"], "--temperature", "warm")
        for value in (-1, 1025):
            refuse(["threads", "1 to 1024", value], "--threads", value)
        refuse(["threads", "an integer", "two"], "--threads", "two")
        for value in (0, -3, 1 << 40):
            refuse(["max-tokens", "1 to 1073741824", value], "--max-tokens", value)
        refuse(["max-tokens", "an integer", "1e3"], "--max-tokens", "1e3")
        refuse(["seed", "-1"], "--seed", -1)
        refuse(["context", "-5"], "--context", -5)
        refuse(["prefill-chunk", "1 to 65536", "0"], "--prefill-chunk", 0)
        refuse(["guesses", "0 to 15", "16"], "--guesses", 16)
        refuse(["guesses", "0 with the policy window", "2"], "--guesses", 2, "--kv-policy", "window")
        refuse(["compute", "int8 or f32", "f16"], "--compute", "f16")
        refuse(["top-p", "0"], "--top-p", 0)
        refuse(["logit-bias", "ID:BIAS", "2"], "--logit-bias", 2)
        refuse(["--prompt", "--file", "both"], "--file", "y")
        refuse(["unexpected argument", "word"], "--", "word")
        self.assert_refused(2, ["--prompt", "--file", "neither"], "generate")
        self.assert_refused(2, ["needs a value"], "generate", "--prompt")

    def test_cache_names(self):
        def refuse(parts, *arguments):
            self.assert_refused(2, parts, "generate", "--prompt", "x", *arguments)

        refuse(["kv-store", "f32", "f16", "f17", "did you mean f16?"], "--kv-store", "f17")
        refuse(["kv-store", "f16", "bits=4"], "--kv-store", "f16:bits=4")
        refuse(["kv-policy", "full", "windo", "did you mean window?"], "--kv-policy", "windo")
        refuse(["window", "key=value", "size=3"], "--kv-policy", "window:size=3")
        refuse(["window", "1 to 1048576", "0"], "--kv-policy", "window:window=0")
        refuse(["sinks", "an integer", "few"], "--kv-policy", "window:sinks=few")

    def test_models_and_prompts(self):
        self.assert_refused(1, ["prompt", "got none"], "generate", "--prompt", "")
        self.assert_refused(1, ["nothing-here", "adze"], "generate", "--prompt", "x", "--model",
                            "nothing-here")
        self.assert_refused(1, ["/no/such.gguf", "does not exist"], "chat", "--model",
                            "/no/such.gguf")
        self.assert_refused(1, [self.folder, "is a folder"], "generate", "--prompt", "x", "--model",
                            self.folder)
        self.assert_refused(1, ["/no/such/file"], "generate", "--file", "/no/such/file")
        self.assert_refused(2, ["logit-bias", "0 to 49151", "99999999"], "generate", "--prompt", "x",
                            "--logit-bias", "99999999:1")

    def test_perplexity(self):
        text = self.folder / "text"
        text.write_text("The river rises in the hills and reaches the sea at the old harbour. " * 20)
        self.assert_refused(2, ["--file"], "perplexity")
        self.assert_refused(1, ["/no/such/file"], "perplexity", "--file", "/no/such/file")
        self.assert_refused(2, ["protocol", "sliding or llama.cpp", "exact"], "perplexity",
                            "--file", text, "--protocol", "exact")
        self.assert_refused(2, ["chunks", "-1"], "perplexity", "--file", text, "--chunks", -1)
        self.assert_refused(1, ["tokens", "51200"], "perplexity", "--file", text, "--protocol",
                            "llama.cpp", "--chunks", 100)
        self.assert_refused(2, ["context", "1"], "perplexity", "--file", text, "--context", 1)
        self.assert_refused(2, ["stride", "32"], "perplexity", "--file", text, "--context", 32,
                            "--stride", 32)
        whole = self.object("perplexity", "--file", text, "--context", 32, "--chunks", 3,
                            "--protocol", "llama.cpp", "--threads", 1)
        self.assertEqual(whole["tokens"], 3 * 15)
        self.assertGreater(whole["perplexity"], 1)
        self.assertGreater(whole["seconds"], 0)
        cut = self.object("perplexity", "--file", text, "--bytes", 69, "--context", 32)
        ids = self.object("tokenize", "--text", text.read_text()[:69])["ids"]
        self.assertEqual(cut["tokens"], len(ids) - 1)


class DamagedModels(Case):
    """The weights are zeros: what is damaged is what describes them."""

    def setUp(self):
        super().setUp()
        self.path = self.folder / "damaged.gguf"
        with open(model, "rb") as file:
            self.header = file.read(4 << 20)  # all metadata and more

    def write(self, header):
        with open(self.path, "wb") as file:
            file.write(header)
            file.truncate(model.stat().st_size)

    def generate(self):
        return ["generate", "--raw", "--prompt", "x", "--max-tokens", 1, "--threads", 1, "--model",
                self.path]

    def with_value(self, key, form, value):
        """The header with another value of a metadata key: name, type (4 bytes), value."""
        begin = self.header.index(key.encode()) + len(key) + 4
        return (self.header[:begin] + struct.pack(form, value) +
                self.header[begin + struct.calcsize(form):])

    def test_undamaged(self):
        self.write(self.header)
        self.object(*self.generate())

    def test_truncated(self):
        self.write(self.header)
        for size in (model.stat().st_size - 1, 50 << 20, 4 << 20, 1 << 20, 20000, 1000, 25, 24, 23,
                     7, 4, 3, 0):
            os.truncate(self.path, size)
            self.assert_refused(1, [self.path.name], *self.generate())

    def test_wrong_values(self):
        for key, form, value, parts in (
                ("llama.block_count", "<I", 0, ["1 to 4096", "0"]),
                ("llama.block_count", "<I", 31, ["blk.30"]),
                ("llama.block_count", "<I", 0xffffffff, ["1 to 4096", "4294967295"]),
                ("llama.embedding_length", "<I", 577, ["multiple of 32", "577"]),
                ("llama.attention.head_count", "<I", 0, ["head_count", "0"]),
                ("llama.attention.head_count_kv", "<I", 4, ["divisor of heads", "4"]),
                ("llama.feed_forward_length", "<I", 1 << 31, ["multiple of 32", "2147483648"]),
                ("llama.context_length", "<I", 0, ["context_length", "0"]),
                ("llama.rope.freq_base", "<f", float("nan"), ["nan"]),
                ("llama.rope.freq_base", "<f", -1.0, ["-1"]),
                ("llama.attention.layer_norm_rms_epsilon", "<f", -1.0, ["-1"]),
                ("llama.rope.dimension_count", "<I", 33, ["dimension_count", "64", "33"]),
                ("tokenizer.ggml.eos_token_id", "<I", 1 << 30, ["eos_token_id", "1073741824"])):
            with self.subTest(key=key, value=value):
                self.write(self.with_value(key, form, value))
                self.assert_refused(1, parts, *self.generate())
        for name, header in {"magic": b"GGUX" + self.header[4:],
                             "version": self.header[:4] + b"\x09\0\0\0" + self.header[8:],
                             "tensors": self.header[:8] + b"\xff" * 8 + self.header[16:]}.items():
            with self.subTest(name):
                self.write(header)
                self.assert_refused(1, [self.path.name], *self.generate())

    def test_random_bytes(self):
        generator = random.Random(11)
        for _ in range(20):
            header = bytearray(self.header)
            for _ in range(generator.randrange(1, 4)):
                header[generator.randrange(1600)] ^= generator.randrange(1, 256)
            self.write(bytes(header))
            result = run(*self.generate())
            message = result.stderr.decode(errors="replace")
            self.assertIn(result.returncode, (0, 1), message)
            if result.returncode == 1:
                self.assertEqual(message.count("\n"), 1, message)
                self.assertTrue(message.startswith("adze: ["), message)


class Chat(Case):
    def chat(self, lines, *arguments, **options):
        return run("chat", "--max-tokens", 6, *GREEDY, *arguments,
                   text="".join(line + "\n" for line in lines).encode(), **options)

    def test_commands(self):
        saved = self.folder / "saved chat"
        result = self.chat(["Say hello.", "/stats", f"/save {saved}", "What did I say?", "/reset",
                            "/stats", f"/load {saved}", "What did I say?", "/help", "/quit",
                            "never read"])
        self.assert_succeeds(result)
        lines = result.stdout.decode().splitlines()
        self.assertRegex(lines[1], r"^2 messages, \d+ tokens, \d+ of them in the cache")
        self.assertIn("prompt tokens", lines[2])
        self.assertRegex(lines[4], r"^0 messages, 0 tokens")
        # The question after /load gets the answer that it got after /save.
        self.assertEqual(lines[6], lines[3])
        self.assertIn("/save FILE", result.stdout.decode())
        notices = result.stderr.decode()
        self.assertIn("saved 2 messages", notices)
        self.assertIn("loaded 2 messages", notices)
        again = self.chat(["What did I say?"], "--load", saved)
        self.assert_succeeds(again)
        self.assertEqual(again.stdout.decode().splitlines(), [lines[3]])

    def test_longer_messages(self):
        """Both forms reach the model as one message with the same line ends."""
        quoted = self.chat(['"""One line,', "/stats is text here,", 'the last"""', "/stats"])
        joined = self.chat(["One line,\\", "/stats is text here,\\", "the last", "/stats"])
        self.assert_succeeds(quoted)

        def tokens(result):
            return re.search(r"2 messages, (\d+) tokens", result.stdout.decode()).group(1)

        self.assertEqual(tokens(quoted), tokens(joined))
        self.assertEqual(quoted.stdout.splitlines()[0], joined.stdout.splitlines()[0])
        self.assertEqual(quoted.stdout.decode().count("2 messages"), 1)

    def test_failures_are_told_and_survived(self):
        missing = self.folder / "missing"
        result = self.chat(["/sav x", "/nonsense-of-a-user", "/save", f"/load {missing}",
                            f"/save {missing}/below", "", "Say hello.", "/stats"])
        self.assertEqual(result.returncode, 1)  # for scripts: something failed
        notices = result.stderr.decode()
        self.assertIn("did you mean /save?", notices)
        self.assertIn("unknown command /nonsense-of-a-user", notices)
        self.assertIn("expected a file name", notices)
        self.assertIn(f"cannot open {missing}", notices)
        self.assertIn(f"{missing}/below", notices)
        self.assertEqual(notices.count("\n"), 5, notices)
        self.assertIn("2 messages", result.stdout.decode())

    def test_long_messages_are_refused(self):
        result = self.chat(["word " * 300, "Hello.", "/stats"], "--context", 128)
        notices = result.stderr.decode()
        for part in ("128", "/reset", "--context", "--kv-policy"):
            self.assertIn(part, notices)
        self.assertIn("2 messages", result.stdout.decode())
        window = self.chat(["word " * 300, "/stats"], "--context", 128, "--kv-policy",
                           "window:window=60")
        self.assert_succeeds(window)
        self.assertIn("2 messages", window.stdout.decode())

    def test_a_save_larger_than_the_context(self):
        saved = self.folder / "saved"
        self.assert_succeeds(self.chat(["word " * 300, f"/save {saved}"]))
        result = self.chat([f"/load {saved}", "/reset", "Hello.", "/stats"], "--context", 64)
        self.assertEqual(result.returncode, 1)
        self.assertIn("--context", result.stderr.decode())
        self.assertIn("2 messages", result.stdout.decode())

    def test_full_disk(self):
        """A limit on the size of files stands for a full disk: it takes no privileges."""
        saved = self.folder / "saved"
        saved.write_text("before")
        # Python ignores SIGXFSZ; the program inherits that, so a write too far fails.
        result = self.chat(
            ["Say hello.", f"/save {saved}", "/stats"], restore_signals=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)))
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"cannot write {saved}", result.stderr.decode())
        self.assertIn("2 messages", result.stdout.decode())
        self.assertEqual(saved.read_text(), "before")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["saved"])

    def test_saving_to_a_device(self):
        """Through a link, so that a wrong rename replaces the link and not the device."""
        device = self.folder / "device"
        device.symlink_to("/dev/full")
        result = self.chat(["Say hello.", f"/save {device}", "/stats"])
        self.assertEqual(result.returncode, 1, result.stderr.decode())
        self.assertNotIn("saved", result.stderr.decode())
        self.assertTrue(device.is_char_device())
        self.assertIn("2 messages", result.stdout.decode())

    def test_damaged_saves(self):
        saved = self.folder / "saved"
        self.assert_succeeds(self.chat(["Say hello.", f"/save {saved}"]))
        whole = saved.read_bytes()
        for name, content in {"cut": whole[:-1000], "empty": b"", "other": b"text" * 1000,
                              "longer": whole + b"x"}.items():
            path = self.folder / name
            path.write_bytes(content)
            with self.subTest(name):
                result = self.chat(["Hi.", f"/load {path}", "/stats"])
                self.assertEqual(result.returncode, 1)
                self.assertIn(name, result.stderr.decode())
                self.assertIn("2 messages", result.stdout.decode())
        self.assert_refused(1, ["cut"], "chat", "--load", self.folder / "cut")

    def test_hostile_saves(self):
        """What loads can be gone on with."""
        saved = self.folder / "saved"
        result = self.chat(["Tell me a story.", f"/save {saved}"])
        self.assert_succeeds(result)
        whole = saved.read_bytes()
        answer = result.stdout.rstrip(b"\n")
        end = whole.rindex(answer) + len(answer)  # of the cached text: the token that waits follows
        self.assertEqual(struct.unpack_from("<Q", whole, end), (1,))
        for token in (-1, 49152, 2**31 - 1):
            saved.write_bytes(whole[:end + 8] + struct.pack("<i", token) + whole[end + 12:])
            self.assert_refused(1, ["saved", "expected tokens from 0 to 49151", token], "chat", "--load", saved)
        rng = random.Random(3)
        for policy, store in (("sirllm:tokens=64", "int8"), ("h2o:keep=0.5", "kivi"), ("window:sinks=4,window=28", "f16"),
                              ("full", "deco:bits=4")):
            cache = ("--kv-policy", policy, "--kv-store", store)
            self.assert_succeeds(self.chat(["Tell me a story.", "And then?", f"/save {saved}"], *cache))
            whole, lines = saved.read_bytes(), []
            for number in range(12):
                damaged = bytearray(whole)
                area = (0, 1500) if number % 2 else (len(whole) - 3000, len(whole))
                for _ in range(3):
                    damaged[rng.randrange(*area)] = rng.choice((0, 255, rng.randrange(256)))
                path = self.folder / str(number)
                path.write_bytes(damaged)
                lines += [f"/load {path}", "Hi.", "/stats"]
            result = self.chat(lines, *cache)
            self.assertIn(result.returncode, (0, 1), result.stderr)
            self.assertNotIn(b"[check]", result.stderr)
            self.assertEqual(result.stdout.count(b"last answer"), 12)  # to the end


class Interrupts(Case):
    def setUp(self):
        super().setUp()
        self.process = subprocess.Popen(
            [ADZE, "chat", *map(str, ENDLESS), "--threads", "1", "--temperature", "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.seen = ""
        self.addCleanup(self.finish)

    def finish(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def read_until(self, part):
        """What the program wrote up to and with `part`."""
        end = time.monotonic() + 120
        while part not in self.seen:
            ready, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            self.assertTrue(ready, f"no {part!r} in {self.seen!r}")
            more = os.read(self.process.stdout.fileno(), 4096)
            self.assertTrue(more, f"ended (exit code {self.process.poll()}) without {part!r} in "
                                  f"{self.seen!r}")
            self.seen += more.decode(errors="replace")
        before, self.seen = self.seen.split(part, 1)
        return before

    def test_an_interrupt_stops_the_answer_alone(self):
        for turn in (2, 4):
            self.send("Tell me a story.")
            self.read_until(" ")
            self.process.send_signal(signal.SIGINT)
            self.read_until("stopped")
            self.send("/stats")
            self.assertIn(f"{turn} messages", self.read_until("last answer"))
            self.read_until("\n")
        # Waiting for a message, it says how to leave instead.
        time.sleep(0.2)
        self.process.send_signal(signal.SIGINT)
        self.read_until("/quit or Ctrl-D leaves")
        self.send("/quit")
        self.assertEqual(self.process.wait(timeout=60), 0)

    def test_an_interrupt_does_not_outlive_its_answer(self):
        self.send("Tell me a story.")
        self.read_until(" ")
        for _ in range(3):
            self.process.send_signal(signal.SIGINT)
        self.read_until("stopped")
        self.send("Another one.")
        self.assertGreater(len(self.read_until(". ")), 20)
        self.process.stdin.close()  # and the end of input ends the chat after the answer
        self.process.send_signal(signal.SIGINT)
        self.assertEqual(self.process.wait(timeout=60), 0)


if __name__ == "__main__":
    model = adze_program.default_model()
    unittest.main()
