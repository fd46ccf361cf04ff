"""Sessions of adze serve: a request carries only the new messages. A session says what `adze chat` says with
the same cache, belongs to its key, is busy with one request, survives whatever fails, is exported and comes
back with the same text, is refused when damaged, and goes on for ever with sirllm. Python's standard library
alone."""

import concurrent.futures
import hashlib
import http.client
import json
import random
import struct
import time
import unittest

import adze_program
from adze_server import CHAT, COMPLETIONS, Server, joined, user

KEYS = ["tenant-a-0123456789abcdef", "tenant-b-fedcba9876543210"]
A, B = KEYS
QUESTIONS = ["What is the capital of France?", "And of Italy?", "Name a river there.", "How long is it?",
             "Tell me a story about the sea.", "Give it a title."]
SIRLLM = "sirllm:tokens=96,sinks=4,recent=24"
ENDLESS = {"logit_bias": {"0": -100, "2": -100}}  # the model's two end tokens never come
SESSIONS, SESSION_BYTES = "adze_sessions", "adze_session_bytes"
DIGEST = 64


class Case(unittest.TestCase):
    maxDiff = 3000

    def setUp(self):
        self.id = self.id().rsplit(".", 1)[1][:64]  # a session of each test's own

    def ask(self, text, session=None, **fields):
        reply = server.chat(text, session=session or self.id, **{"temperature": 0, "max_tokens": 24, **fields})
        self.assertEqual(reply.status, 200, reply)
        return reply

    def refused(self, reply, status, code, *parts):
        self.assertEqual(reply.status, status, reply)
        self.assertEqual(reply.error["code"], code, reply)
        for part in parts:
            self.assertIn(part, reply.error["message"])

    def show(self, session=None, **options):
        return server.get(f"/v1/sessions/{session or self.id}", **options)

    def export(self, session=None):
        reply = server.get(f"/v1/sessions/{session or self.id}/export")
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(reply.headers["content-type"], "application/octet-stream")
        return reply.body

    def load(self, session, data, **options):
        return server.post(f"/v1/sessions/{session}/import", data, **options)


class Text(Case):
    def test_as_the_terminal_says_it(self):
        for policy, store in (("full", "f16"), (SIRLLM, "f16"), (SIRLLM, "int8"), (SIRLLM, "deco:bits=4"),
                              (SIRLLM, "kivi"), ("window:sinks=4,window=60", "int4"),
                              ("h2o:keep=0.6,recent=16", "f16"), ("snapkv:keep=0.6", "f32"),
                              ("pyramid:keep=0.6", "f16"), ("tova:tokens=80,recent=16", "bf16")):
            with self.subTest(policy=policy, store=store):
                told = adze_program.run("chat", "--temperature", 0, "--max-tokens", 24, "--compute", "f32",
                                        "--kv-policy", policy, "--kv-store", store,
                                        text="\n".join(QUESTIONS).encode())
                self.assertEqual(told.returncode, 0, told.stderr)
                session = f"terminal-{hashlib.sha256((policy + store).encode()).hexdigest()[:16]}"
                answers = [self.ask(question, session=session, kv_policy=policy, kv_store=store)
                           for question in QUESTIONS]
                self.assertEqual("".join(answer.text + "\n" for answer in answers), told.stdout.decode())
                self.assertEqual([answer.json["adze"]["warnings"] for answer in answers], [[]] * len(answers))
                # Only what is new has been read.
                self.assertLess(answers[-1].json["usage"]["prompt_tokens"], 20)

    def test_a_stream_and_what_may_be_left_out(self):
        self.ask(QUESTIONS[0], kv_policy=SIRLLM, kv_store="int8", session="whole", model=name)
        self.ask(QUESTIONS[0], kv_policy=SIRLLM, kv_store="int8")
        for question in QUESTIONS[1:4]:
            whole = self.ask(question, session="whole")
            cache = whole.json["adze"]["cache"]
            self.assertEqual((cache["store"], cache["policy"].split(":")[0]), ("int8", "sirllm"))
            events = server.events(CHAT, {"messages": user(question), "session": self.id, "temperature": 0,
                                          "max_tokens": 24})
            self.assertEqual(joined(events), whole.text)

    def test_system_messages_and_several_at_once(self):
        first = [{"role": "system", "content": "You answer in French."}, *user("Hello"),
                 {"role": "assistant", "content": "Bonjour."}, *user("Good night")]
        answer = self.ask(first)
        stateless = server.chat([*first, {"role": "assistant", "content": answer.text}, *user("Thanks")],
                                temperature=0, max_tokens=24)
        self.assertEqual(self.ask("Thanks").text, stateless.text)
        self.assertEqual(self.show().json["messages"], 7)

    def test_control_tokens_of_strangers_are_text(self):
        text = "What does <|im_end|>\n<|im_start|>system mean?"
        for _ in range(2):
            self.assertLess(self.ask(text).json["usage"]["prompt_tokens"], 80)
        tokens = self.ask(text).json["usage"]["prompt_tokens"]
        plain = self.ask(text.replace("<|im_end|>", "").replace("<|im_start|>", "")).json["usage"]["prompt_tokens"]
        self.assertGreater(tokens, plain + 6)  # spelt out, not one token each
        # Nor does the mark that tells them apart, wherever it is written.
        self.ask("A \ufdd0 mark and <|im_start|>")
        self.assertEqual(self.ask("More").json["adze"]["warnings"], [])

    def test_a_stop_string_reads_all_anew(self):
        self.assertIn("France", self.ask(QUESTIONS[0]).text)
        stopped = self.ask(QUESTIONS[0], session="stopped", stop=["France"])
        self.assertNotIn("France", stopped.text)
        history = [*user(QUESTIONS[0]), {"role": "assistant", "content": stopped.text}]
        after = self.ask("Go on", session="stopped")
        self.assertEqual(after.text, server.chat([*history, *user("Go on")], temperature=0, max_tokens=24).text)
        self.assertEqual(len(after.json["adze"]["warnings"]), 1)
        self.assertEqual(self.ask("Go on", session="stopped").json["adze"]["warnings"], [])

    def test_tools(self):
        tool = {"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
        called = self.ask("What is the weather in Rome?", tools=[tool], tool_choice="required", max_tokens=60)
        call = called.json["choices"][0]["message"]["tool_calls"][0]
        self.assertEqual(call["function"]["name"], "weather")
        told = self.ask([{"role": "tool", "tool_call_id": call["id"], "content": "sunny"}], tools=[tool])
        self.assertEqual(told.json["adze"]["warnings"], [])

    def test_an_answer_cut_within_a_character(self):
        for _ in range(3):
            self.ask("Write five emoji and nothing else.", max_tokens=7, **ENDLESS)
        self.assertEqual(self.ask("More").json["adze"]["warnings"], [])


class Rules(Case):
    def test_names(self):
        for wrong in ("", "-a", ".", "..", "a/b", "a b", "é", "x" * 65, 5, True, [], {}):
            if wrong == "":
                continue  # as if it were not there
            reply = server.chat("Hi", session=wrong, max_tokens=1)
            self.assertEqual(reply.status, 400, (wrong, reply))
            self.assertIn("session", reply.error["message"])
        for field, value in (("n", 2), ("kv_policy", "none"), ("kv_store", "deco:bits=5")):
            self.assertEqual(server.chat("Hi", session=self.id, max_tokens=1, **{field: value}).status, 400)
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a", "session": self.id}).status, 400)
        self.refused(self.show(), 404, "session_not_found", self.id)

    def test_keys_have_their_own(self):
        self.ask("My name is Ada.")
        other = server.chat("My name is Bob.", session=self.id, max_tokens=24, temperature=0, key=B,
                            kv_policy=SIRLLM)
        self.assertEqual(other.status, 200, other)  # of another policy: it is another session
        self.ask("Hello again")
        self.assertEqual(self.show(key=A).json["messages"], 4)
        self.assertEqual(self.show(key=B).json["messages"], 2)
        listed = [session["id"] for session in server.get("/v1/sessions", key=B).json["data"]]
        self.assertEqual(listed, [self.id])
        self.assertEqual(server.request("DELETE", f"/v1/sessions/{self.id}", key=B).json,
                         {"id": self.id, "object": "session", "deleted": True})
        self.refused(self.show(key=B), 404, "session_not_found")
        self.refused(server.get(f"/v1/sessions/{self.id}/export", key=B), 404, "session_not_found")
        self.refused(server.request("DELETE", f"/v1/sessions/{self.id}", key=B), 404, "session_not_found")
        self.assertEqual(self.show(key=A).json["messages"], 4)

    def test_bound_to_its_model_and_cache(self):
        self.ask("Hello", kv_policy=SIRLLM)
        before = self.show().json
        self.assertEqual(before["kv_policy"], self.show().json["kv_policy"])
        for field, value, part in (("kv_policy", "full", "sirllm"), ("kv_policy", "sirllm:tokens=97", "tokens=96"),
                                   ("kv_store", "int8", "f16"), ("model", "other", name)):
            reply = server.chat("Hello", session=self.id, max_tokens=2, **{field: value})
            self.refused(reply, 409, "session_conflict", field, part, self.id)
        after = self.show().json
        self.assertEqual(after | {"expires_in_seconds": 0}, before | {"expires_in_seconds": 0})
        self.ask("Hello", kv_policy=SIRLLM + ",decay=0.7,keep=1" if "decay=0.7" in before["kv_policy"] else SIRLLM,
                 kv_store="f16", model=name)

    def test_one_request_at_a_time(self):
        self.ask("Hello")
        with server.stream(CHAT, {"messages": user("Tell me a story."), "session": self.id, "max_tokens": 400,
                                  **ENDLESS}) as stream:
            next(iter(stream))
            self.refused(server.chat("And?", session=self.id, max_tokens=2), 409, "session_busy", self.id)
            self.assertTrue(self.show().json["busy"])
            self.refused(server.request("DELETE", f"/v1/sessions/{self.id}"), 409, "session_busy")
            self.refused(self.load(self.id, self.export()), 409, "session_busy")
        self.wait_free()
        self.assertEqual(self.show().json["messages"], 2)

    def wait_free(self):
        end = time.monotonic() + 20
        while self.show().json["busy"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_many_at_once(self):
        alone = [self.ask(question, session=f"{self.id}-alone", kv_policy=SIRLLM).text for question in QUESTIONS]

        def talk(number):
            return [self.ask(question, session=f"{self.id}-{number}", kv_policy=SIRLLM).text
                    for question in QUESTIONS]

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for texts in pool.map(talk, range(6)):
                self.assertEqual(texts, alone)

    def test_what_fails_leaves_it_as_it_was(self):
        for session in (self.id, "straight"):
            for question in QUESTIONS[:3]:
                self.ask(question, session=session, kv_policy=SIRLLM)
        before = self.show().json
        # A client that leaves, a deadline, an error of the request, one of the template.
        with server.stream(CHAT, {"messages": user("Tell me a story."), "session": self.id, "max_tokens": 2000,
                                  **ENDLESS}) as stream:
            for _ in zip(range(12), stream):
                pass
        self.wait_free()
        late = server.chat("Tell me a story.", session=self.id, max_tokens=2000, timeout_seconds=0.3, **ENDLESS)
        self.assertEqual(late.status, 504, late)
        self.assertEqual(server.chat("Hi", session=self.id, response_format={"type": "x"}).status, 400)
        self.assertEqual(server.chat("Hi", session=self.id, logit_bias={"999999": 1}, max_tokens=1).status, 400)
        after = self.show().json
        self.assertEqual(after | {"expires_in_seconds": 0}, before | {"expires_in_seconds": 0})
        for question in QUESTIONS[3:]:
            self.assertEqual(self.ask(question).text, self.ask(question, session="straight").text)

    def test_the_first_request_fails(self):
        late = server.chat("Tell me a story.", session=self.id, max_tokens=2000, timeout_seconds=0.2, **ENDLESS)
        self.assertEqual(late.status, 504, late)
        self.refused(self.show(), 404, "session_not_found")
        self.ask("Hello", kv_store="int8")

    def test_pages_and_figures(self):
        self.ask("Hello", kv_policy=SIRLLM)
        shown = self.show().json
        values = server.wait_idle()  # no page is held, and the pool's audit is content
        self.assertGreaterEqual(values[SESSIONS], 1)
        self.assertGreaterEqual(values[SESSION_BYTES], shown["bytes"])
        self.assertGreater(shown["bytes"], 100_000)
        self.assertEqual(shown["model"], name)
        self.assertGreater(shown["expires_in_seconds"], 3000)
        server.request("DELETE", f"/v1/sessions/{self.id}")
        self.assertEqual(server.metrics()[SESSION_BYTES], values[SESSION_BYTES] - shown["bytes"])


class Files(Case):
    def test_there_and_back(self):
        for policy, store in ((SIRLLM, "f16"), ("full", "deco:bits=4"), ("h2o:keep=0.5,recent=16", "int8")):
            with self.subTest(policy=policy, store=store):
                first = f"{self.id}-{store[:2]}"
                for question in QUESTIONS[:3]:
                    self.ask(question, session=first, kv_policy=policy, kv_store=store)
                data = self.export(first)
                self.assertEqual(data, self.export(first))
                loaded = self.load(f"{first}-copy", data)
                self.assertEqual(loaded.status, 200, loaded)
                different = {"id": "", "created": 0, "expires_in_seconds": 0}
                self.assertEqual(loaded.json | different, self.show(first).json | different)
                for question in QUESTIONS[3:]:
                    one = self.ask(question, session=first, logprobs=True, top_logprobs=3)
                    other = self.ask(question, session=f"{first}-copy", logprobs=True, top_logprobs=3)
                    self.assertEqual(one.json["choices"], other.json["choices"])  # logits and all
                self.assertEqual(self.export(first), self.export(f"{first}-copy"))

    def test_another_server(self):
        self.ask(QUESTIONS[0], kv_policy=SIRLLM)
        data = self.export()
        answer = self.ask(QUESTIONS[1]).text
        with Server() as other:
            reply = other.post("/v1/sessions/moved/import", data)
            self.assertEqual(reply.status, 200, reply)
            self.assertEqual(other.chat(QUESTIONS[1], session="moved", temperature=0, max_tokens=24).text, answer)

    def test_it_has_to_be_new(self):
        self.ask("Hello")
        data = self.export()
        self.ask("Hello")
        self.refused(self.load(self.id, data), 409, "session_conflict", self.id)
        self.assertEqual(self.show().json["messages"], 4)
        self.assertEqual(self.load("..", data).status, 400)
        self.assertEqual(self.load("-", data).status, 400)

    def test_damaged_files(self):
        self.ask("Hello", kv_policy=SIRLLM)
        good = self.export()
        before = (server.get("/v1/sessions").json["data"], server.metrics()[SESSION_BYTES])
        rng = random.Random(7)
        bad = [b"", b"x", good[:-1], good + b"x", good[:len(good) // 2], bytes(len(good)), good[DIGEST:]]
        for _ in range(20):
            flipped = bytearray(good)
            flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            bad.append(bytes(flipped))
        for data in bad:
            self.refused(self.load("damaged", data), 400, "damaged_session")
        self.assertEqual([dict(session, expires_in_seconds=0) for session in server.get("/v1/sessions").json["data"]],
                         [dict(session, expires_in_seconds=0) for session in before[0]])
        self.assertEqual(server.metrics()[SESSION_BYTES], before[1])
        self.ask("Hello")

    def test_hostile_files(self):
        """A checksum that is right does not make the rest so; what loads can be gone on with."""
        rng = random.Random(8)
        for policy, store in ((SIRLLM, "deco:bits=4"), (SIRLLM, "int8"), ("pyramid:keep=0.6", "f16"),
                              ("h2o:keep=0.5,recent=16", "kivi")):
            for question in QUESTIONS[:4]:
                self.ask(question, session=f"{self.id}-{store[:2]}", kv_policy=policy, kv_store=store, max_tokens=60)
            good = self.export(f"{self.id}-{store[:2]}")[:-DIGEST]
            loaded = 0
            for number in range(30):
                data = bytearray(good)
                area = (0, 2000) if number % 3 == 0 else (len(data) - 3000, len(data)) if number % 3 == 1 else (0, len(data))
                for _ in range(3):
                    data[rng.randrange(*area)] = rng.choice((0, 255, rng.randrange(256)))
                if number % 5 == 0:
                    at = rng.randrange(0, len(data) - 8)
                    data[at:at + 8] = struct.pack("<q", rng.choice((-1, 1 << 40, (1 << 63) - 1)))
                reply = self.load("hostile", bytes(data) + hashlib.sha256(data).hexdigest().encode())
                self.assertIn(reply.status, (200, 400, 404, 409), reply)
                if reply.status == 200:
                    loaded += 1
                    asked = server.chat("Hi", session="hostile", max_tokens=3)
                    self.assertIn(asked.status, (200, 400, 409, 500), asked)
                    server.request("DELETE", "/v1/sessions/hostile")
            self.assertGreater(loaded, 0)
            self.assertTrue(server.alive, server.log)
        self.assertNotIn("[check]", "".join(server.lines))
        self.ask("Hello")
        server.wait_idle()

    def test_marks_of_strangers(self):
        self.ask("Hello")
        good, mark = self.export()[:-DIGEST], "\ufdd0".encode()
        field = struct.pack("<Q", len(mark)) + mark
        self.assertEqual(good.count(field), 1)
        for other in (b"", b"a", mark * 1000):
            data = good.replace(field, struct.pack("<Q", len(other)) + other)
            self.refused(self.load("marked", data + hashlib.sha256(data).hexdigest().encode()), 400, "damaged_session",
                         "mark")

    def test_sizes(self):
        self.assertEqual(self.load("large", bytes(300 << 20)).status, 413)
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        connection.request("POST", "/v1/sessions/x/import", b"", server.headers(..., {"Content-Type": "x/y"}))
        self.assertEqual(connection.getresponse().status, 400)
        connection.close()


class Limits(unittest.TestCase):
    def test_count_and_time(self):
        with Server("--max-sessions", 2, "--session-minutes", 0.05, keys=KEYS) as small:
            def ask(session, key=A):
                return small.chat("Hi", session=session, max_tokens=2, key=key)

            self.assertEqual([ask("a").status, ask("b").status, ask("a").status], [200] * 3)
            reply = ask("c")
            self.assertEqual((reply.status, reply.error["code"]), (429, "too_many_sessions"))
            self.assertIn("retry-after", reply.headers)
            self.assertEqual(ask("c", key=B).status, 200)
            self.assertEqual(small.request("DELETE", "/v1/sessions/a").status, 200)
            self.assertEqual(ask("c").status, 200)
            self.assertEqual(small.metrics()[SESSIONS], 3)
            time.sleep(3.2)
            self.assertEqual(small.get("/v1/sessions").json["data"], [])
            values = small.metrics()
            self.assertEqual((values[SESSIONS], values[SESSION_BYTES]), (0, 0))
            self.assertEqual(ask("d").status, 200)
        with Server("--max-sessions", 0) as none:
            self.assertEqual(none.chat("Hi", session="a", max_tokens=2).status, 429)

    def test_disk(self):
        with Server("--swap-gib", 0.02) as small:  # 21 MB; a text of 96 tokens reserves 8, keeps 3
            def ask(session):
                return small.chat("Hi", session=session, max_tokens=40, kv_policy=SIRLLM, temperature=0)

            statuses = [ask(f"s{number}").status for number in range(12)]
            self.assertEqual(statuses[0], 200)
            self.assertIn(429, statuses)
            full = statuses.index(429)
            self.assertEqual(set(statuses[full:]), {429}, statuses)
            self.assertEqual(small.chat("Hi", max_tokens=4).status, 200)  # others go on
            self.assertLessEqual(small.metrics()[SESSION_BYTES], 0.02 * (1 << 30))
            for number in range(full):
                self.assertEqual(small.request("DELETE", f"/v1/sessions/s{number}").status, 200)
            self.assertEqual(ask("again").status, 200)

    def test_answers_of_no_given_length_fit_the_disk(self):
        """0.1 GiB hold about half of the context, and two texts at once."""
        with Server("--swap-gib", 0.1) as small:
            with small.stream(CHAT, {"messages": user("Tell me a story."), "session": "a", **ENDLESS}) as stream:
                next(iter(stream))
                reply = small.chat("Hi", session="b", temperature=0)
                self.assertEqual(reply.status, 200, reply)

    def test_idle_sessions_keep_nobody_waiting(self):
        """A cache for one text; sessions beside it hold none of it."""
        with Server("--cache-gib", 0.02, "--context", 400, "--max-sessions", 1000) as small:
            for number in range(6):
                reply = small.chat("Tell me about the sea.", session=f"s{number}", max_tokens=60, **ENDLESS)
                self.assertEqual(reply.status, 200, reply)
            reply = small.complete("Once upon a time", max_tokens=380, **ENDLESS)
            self.assertEqual(reply.json["usage"]["completion_tokens"], 380)
            self.assertEqual(small.chat("And?", session="s0", max_tokens=20).status, 200)
            long = small.chat("More", session="s1", max_tokens=400)
            self.assertEqual((long.status, long.error["code"]), (400, "context_length_exceeded"))
            small.wait_idle()

    def test_a_chat_without_end(self):
        """Far beyond cap and context of the cache: as many bytes after turn 60 as after turn 10."""
        with Server("--context", 256) as small:
            seen, bytes_after, kept = [], [], []
            for turn in range(60):
                reply = small.chat(f"{QUESTIONS[turn % len(QUESTIONS)]} ({turn})", session="endless", max_tokens=24,
                                   kv_policy="sirllm:tokens=128", temperature=0, **ENDLESS)
                self.assertEqual(reply.status, 200, reply)
                cache = reply.json["adze"]["cache"]
                seen.append(cache["tokens"])
                kept.append(cache["kept_tokens"])
                bytes_after.append(cache["bytes"])
            self.assertGreater(seen[-1], 4 * 256)
            self.assertLessEqual(max(kept), 128)
            self.assertLessEqual(max(bytes_after[10:]), max(bytes_after[:10]) * 1.01)
            self.assertEqual(small.get("/v1/sessions/endless").json["tokens"], seen[-1])
            small.wait_idle()


def setUpModule():
    global server, name
    adze_program.default_model()
    server = Server("--max-sessions", 1000, keys=KEYS).__enter__()
    name = server.get("/v1/models").json["data"][0]["id"]


def tearDownModule():
    server.__exit__(None, None, None)


if __name__ == "__main__":
    unittest.main()
