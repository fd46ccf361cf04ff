"""What users of the official openai client call, against adze serve: every parameter, streamed and not, the
async client, errors, time-outs, cancellation. Prints how many calls it made. The client comes from
tools/test-python serve; where it cannot be had the test is skipped."""

import asyncio
import base64
import json
import math
import os
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import test_python

test_python.need("openai", "serve")
import openai

import adze_program
from adze_server import PAGES_USED, RUNNING, Server, user

KEYS = ["key-of-the-suite-0123456789", "key-of-another-0123456789"]
ENDLESS = {"0": -100, "2": -100}  # the model's two end tokens never come
COUNT = "One, two, three, four, five,"
STORY = ("The keeper of the northern lighthouse wrote down every ship that passed, its flag, its course and "
         "the weather, and at the end of each month he sent the pages to the harbour office by the mail boat. ")
EMOJI = "🦙🧪🦙🧪🦙🧪🦙🧪🦙🧪🦙🧪"  # three tokens each; the model goes on with more of them
CALLS_WANTED = 60


class Calls:
    total = failed = streams = 0


def count_request(request):
    Calls.total += 1
    body = request.content if request.method == "POST" else b""
    Calls.streams += b'"stream":true' in body


def count_response(response):
    Calls.failed += response.status_code >= 400


async def count_request_async(request):
    count_request(request)


def make_client(key=KEYS[0], **options):
    hooks = {"request": [count_request], "response": [count_response]}
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, **{"max_retries": 0, "timeout": 60, **options},
                         http_client=openai.DefaultHttpxClient(event_hooks=hooks))


def make_async_client(**options):
    hooks = {"request": [count_request_async]}
    return openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEYS[0], max_retries=0, timeout=120,
                              http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks), **options)


def chat(text=COUNT, **options):
    messages = options.pop("messages", None) or user(text)
    options.setdefault("max_tokens", 16)
    return client.chat.completions.create(model=name, messages=messages, **options)


def complete(prompt=COUNT, **options):
    options.setdefault("max_tokens", 16)
    return client.completions.create(model=name, prompt=prompt, **options)


def answer(result):
    choice = result.choices[0]
    return choice.message.content if hasattr(choice, "message") else choice.text


def collected(stream):
    """Texts by choice, finish reasons by choice, and the chunks of a stream of either kind."""
    texts, reasons, chunks = {}, {}, list(stream)
    for chunk in chunks:
        for choice in chunk.choices:
            more = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (more or "")
            if choice.finish_reason:
                assert choice.index not in reasons, "two finish reasons"
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, chunks


def extra(result):
    return result.model_extra["adze"]


class Chat(unittest.TestCase):
    def test_an_answer(self):
        result = chat("What is 2 + 2?", temperature=0, max_tokens=20)
        self.assertIn("4", answer(result))
        self.assertEqual(result.choices[0].finish_reason, "stop")
        self.assertEqual(result.choices[0].message.role, "assistant")
        self.assertIsNone(result.choices[0].message.refusal)
        self.assertEqual(result.object, "chat.completion")
        self.assertEqual(result.model, name)
        self.assertLess(abs(result.created - time.time()), 60)
        self.assertTrue(result.system_fingerprint)
        self.assertEqual(extra(result)["warnings"], [])
        self.assertGreater(extra(result)["timings"]["prefill_tokens_per_second"], 0)

    def test_roles_and_parts(self):
        system = {"role": "system", "content": "You answer in one word."}
        plain = chat(messages=[system, *user("What is 2 + 2?")], temperature=0)
        parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": " 2 + 2?"}]
        for messages in ([system, {"role": "user", "content": parts}],
                         [{**system, "role": "developer"}, *user("What is 2 + 2?")]):
            result = chat(messages=messages, temperature=0)
            self.assertEqual(answer(result), answer(plain))
            self.assertEqual(result.usage.prompt_tokens, plain.usage.prompt_tokens)
        turn = chat(messages=[*user("My name is Ada."), {"role": "assistant", "content": "Hello, Ada."},
                              *user("What is my name?")], temperature=0)
        self.assertGreater(turn.usage.prompt_tokens, chat("What is my name?").usage.prompt_tokens)
        named = chat(messages=[{"role": "user", "name": "ada", "content": "Hi"}], temperature=0, user="u-1")
        self.assertTrue(answer(named))

    def test_lengths(self):
        for field in ("max_tokens", "max_completion_tokens"):
            result = client.chat.completions.create(model=name, messages=user("Tell me a story."), temperature=0,
                                                    **{field: 7})
            self.assertEqual(result.choices[0].finish_reason, "length")
            self.assertEqual(result.usage.completion_tokens, 7)
        whole = client.chat.completions.create(model=name, messages=user("What is 2 + 2?"), temperature=0)
        self.assertEqual(whole.choices[0].finish_reason, "stop")

    def test_stream(self):
        options = dict(text="Tell me about the sea.", seed=11, temperature=0.8, max_tokens=40)
        whole = chat(**options)
        texts, reasons, chunks = collected(chat(**options, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(texts, {0: answer(whole)})
        self.assertEqual(reasons, {0: whole.choices[0].finish_reason})
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(chunks[-1].usage.prompt_tokens, whole.usage.prompt_tokens)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        self.assertGreater(len(chunks), 10)
        plain = list(chat(**options, stream=True))
        self.assertTrue(all(chunk.usage is None and chunk.choices for chunk in plain))

    def test_streamed_samples(self):
        options = dict(text="Tell me about the sea.", n=3, seed=4, temperature=1.2, max_tokens=12)
        whole = chat(**options)
        texts, reasons, _ = collected(chat(**options, stream=True))
        self.assertEqual(texts, {choice.index: choice.message.content for choice in whole.choices})
        self.assertEqual(set(reasons), {0, 1, 2})
        self.assertGreater(len(set(texts.values())), 1)
        self.assertEqual(whole.usage.completion_tokens, 36)

    def test_stream_helper(self):
        with client.chat.completions.stream(model=name, messages=user("What is 2 + 2?"),
                                            temperature=0, max_tokens=40) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            self.assertEqual(stream.get_final_completion().choices[0].message.content, text)

    def test_logprobs(self):
        result = chat("What is 2 + 2?", temperature=0, logprobs=True, top_logprobs=5, max_tokens=8)
        tokens = result.choices[0].logprobs.content
        shown = b"".join(bytes(token.bytes) for token in tokens)
        self.assertTrue(shown.decode().startswith(answer(result)))
        for token in tokens:
            self.assertEqual(len(token.top_logprobs), 5)
            values = [other.logprob for other in token.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertEqual(token.logprob, values[0])  # greedy
            self.assertLessEqual(sum(map(math.exp, values)), 1.0001)
        none = chat(logprobs=True, max_tokens=2, temperature=0)
        self.assertEqual([token.top_logprobs for token in none.choices[0].logprobs.content], [[], []])
        self.assertIsNone(chat(max_tokens=2).choices[0].logprobs)
        streamed = [token for chunk in chat("What is 2 + 2?", temperature=0, logprobs=True,
                                            top_logprobs=5, max_tokens=8, stream=True)
                    for choice in chunk.choices if choice.logprobs for token in choice.logprobs.content]
        self.assertEqual([token.logprob for token in streamed], [token.logprob for token in tokens])

    def test_cache_options(self):
        for store in ("f32", "bf16", "int8"):
            result = chat(extra_body={"kv_store": store}, temperature=0, max_tokens=4)
            self.assertEqual(extra(result)["cache"]["store"].split(":")[0], store)
        result = chat(STORY * 6, extra_body={"kv_policy": "window:sinks=4,window=60", "cache_picture": True},
                      temperature=0, max_tokens=4)
        cache = extra(result)["cache"]
        self.assertLess(cache["kept_tokens"], cache["tokens"])
        self.assertEqual(len(cache["kept"]), cache["layers"])
        for fields in ({"answer_strategy": "first"}, {"cache_salt": "pepper"}, {"guesses": 4}):
            self.assertTrue(answer(chat(extra_body=fields, temperature=0)))


class Sampling(unittest.TestCase):
    def test_seed(self):
        options = dict(prompt="Once upon a time", temperature=1.0, max_tokens=24)
        self.assertEqual(answer(complete(**options, seed=1)), answer(complete(**options, seed=1)))
        self.assertNotEqual(answer(complete(**options, seed=1)), answer(complete(**options, seed=2)))
        first = complete(**options)
        second = complete(**options)
        self.assertNotEqual(extra(first)["seed"], extra(second)["seed"])
        self.assertEqual(answer(complete(**options, seed=extra(first)["seed"])), answer(first))

    def test_filters_that_leave_one_token(self):
        greedy = answer(complete(temperature=0))
        for fields in ({"top_p": 1e-9}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1}}):
            self.assertEqual(answer(complete(temperature=1.5, seed=3, **fields)), greedy, fields)

    def test_penalties(self):
        prompt = EMOJI
        plain = answer(complete(prompt, temperature=0))
        self.assertGreater(plain.count("🧪"), 4)
        for fields in ({"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 5}}):
            self.assertNotEqual(answer(complete(prompt, temperature=0, **fields)), plain, fields)
        self.assertEqual(answer(complete(prompt, temperature=0, frequency_penalty=0, presence_penalty=0,
                                         extra_body={"repetition_penalty": 1})), plain)

    def test_logit_bias(self):
        token, = server.tokens(" blue")
        self.assertEqual(answer(complete(temperature=0, max_tokens=3, logit_bias={str(token): 100})), " blue" * 3)
        self.assertEqual(answer(chat(temperature=0, max_tokens=3, logit_bias={str(token): 100})), " blue" * 3)
        six, = server.tokens(" six")
        self.assertTrue(answer(complete(temperature=0)).startswith(" six"))
        self.assertNotIn(" six", answer(complete(temperature=0, logit_bias={str(six): -100})))

    def test_stop(self):
        whole = answer(complete(temperature=0, max_tokens=24))
        for stop in ("eight", "ght, an", [" nine", "seven"], ["never", ","], " six"):
            result = complete(temperature=0, max_tokens=24, stop=stop)
            cut = min(whole.find(text) for text in ([stop] if isinstance(stop, str) else stop) if text in whole)
            self.assertEqual(answer(result), whole[:cut], stop)
            self.assertEqual(result.choices[0].finish_reason, "stop")
            texts, reasons, _ = collected(complete(temperature=0, max_tokens=24, stop=stop, stream=True))
            self.assertEqual((texts.get(0, ""), reasons), (whole[:cut], {0: "stop"}))
        # What looks like the beginning of a stop string and is none comes in the end.
        held = collected(complete(temperature=0, max_tokens=24, stop=" eight, nein", stream=True))[0][0]
        self.assertEqual(held, whole)


class Completions(unittest.TestCase):
    def test_forms_of_a_prompt(self):
        expected = complete(temperature=0)
        ids = server.tokens(COUNT)
        self.assertEqual(expected.usage.prompt_tokens, len(ids))
        self.assertEqual(expected.object, "text_completion")
        for prompt in (ids, [COUNT], [ids]):
            self.assertEqual(answer(complete(prompt, temperature=0)), answer(expected))
        other = "Red, green, blue,"
        several = complete([COUNT, other], temperature=0)
        self.assertEqual([choice.text for choice in several.choices],
                         [answer(expected), answer(complete(other, temperature=0))])
        self.assertEqual([choice.index for choice in several.choices], [0, 1])
        mixed = complete([ids, server.tokens(other)], temperature=0)
        self.assertEqual([choice.text for choice in mixed.choices], [choice.text for choice in several.choices])
        self.assertEqual(mixed.usage.prompt_tokens, len(ids) + len(server.tokens(other)))

    def test_samples_of_several_prompts(self):
        options = dict(n=2, seed=5, temperature=1.3, max_tokens=8)
        both = complete([COUNT, "Red, green,"], **options)
        self.assertEqual([choice.index for choice in both.choices], [0, 1, 2, 3])
        self.assertNotEqual(both.choices[0].text, both.choices[1].text)
        alone = complete(COUNT, **options)
        self.assertEqual([choice.text for choice in alone.choices], [choice.text for choice in both.choices[:2]])
        self.assertEqual(len(complete(best_of=2, n=2, max_tokens=2).choices), 2)
        texts, _, _ = collected(complete([COUNT, "Red, green,"], **options, stream=True))
        self.assertEqual(texts, {choice.index: choice.text for choice in both.choices})

    def test_default_length(self):
        result = client.completions.create(model=name, prompt="Once upon a time", temperature=0, logit_bias=ENDLESS)
        self.assertEqual(result.usage.completion_tokens, 16)
        self.assertEqual(result.choices[0].finish_reason, "length")

    def test_echo(self):
        plain = answer(complete(temperature=0))
        self.assertEqual(answer(complete(temperature=0, echo=True)), COUNT + plain)
        self.assertEqual(answer(complete(echo=True, max_tokens=0)), COUNT)
        texts, _, _ = collected(complete(temperature=0, echo=True, stream=True))
        self.assertEqual(texts[0], COUNT + plain)

    def test_logprobs_of_prompt_and_answer(self):
        count = len(server.tokens(COUNT))
        result = complete(temperature=0, echo=True, logprobs=3, max_tokens=4)
        found = result.choices[0].logprobs
        self.assertEqual(len(found.tokens), count + 4)
        self.assertEqual("".join(found.tokens), answer(result))
        self.assertEqual(found.text_offset[0], 0)
        self.assertIsNone(found.token_logprobs[0])
        for value, top in list(zip(found.token_logprobs, found.top_logprobs))[1:]:
            self.assertIn(len(top), (2, 3, 4))  # equal texts fall together, the token itself may come on top
            self.assertIn(value, top.values())
        self.assertTrue(all(value == max(top.values()) for value, top in
                            list(zip(found.token_logprobs, found.top_logprobs))[count:]))
        scored = complete(echo=True, logprobs=3, max_tokens=0).choices[0].logprobs
        self.assertEqual(scored.token_logprobs, found.token_logprobs[:count])
        only = complete(temperature=0, logprobs=3, max_tokens=4).choices[0].logprobs
        self.assertEqual(only.token_logprobs, found.token_logprobs[count:])
        self.assertEqual(only.text_offset[0], 0)
        zero = complete(temperature=0, logprobs=0, max_tokens=4).choices[0].logprobs
        self.assertEqual(zero.token_logprobs, only.token_logprobs)
        self.assertIsNone(complete(max_tokens=2).choices[0].logprobs)
        lists = complete([COUNT, "Red, green,"], echo=True, logprobs=1, max_tokens=0)
        self.assertEqual(lists.choices[0].logprobs.token_logprobs, scored.token_logprobs)

    def test_an_end_token_has_its_logprob(self):
        """lm-eval asks for one token more and drops the last entry, whatever came."""
        result = complete(echo=True, logprobs=1, max_tokens=1, temperature=0, logit_bias={"2": 100})
        self.assertEqual(result.choices[0].finish_reason, "stop")
        self.assertEqual(answer(result), COUNT)
        self.assertEqual(len(result.choices[0].logprobs.token_logprobs), len(server.tokens(COUNT)) + 1)
        self.assertEqual(result.usage.completion_tokens, 1)

    def test_usage(self):
        messages = [{"role": "system", "content": "Be brief."}, *user("Tell me a story. 🦙")]
        framed = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTell me a story. 🦙<|im_end|>\n"
        result = chat(messages=messages, temperature=0, max_tokens=9, logit_bias=ENDLESS)
        self.assertEqual(result.usage.prompt_tokens, len(server.tokens(framed + "<|im_start|>assistant\n")))
        self.assertEqual(result.usage.completion_tokens, 9)
        self.assertEqual(result.usage.total_tokens, result.usage.prompt_tokens + 9)
        again = chat(messages=user(STORY * 3), max_tokens=1)
        hit = chat(messages=user(STORY * 3), max_tokens=1)
        self.assertEqual(hit.usage.prompt_tokens, again.usage.prompt_tokens)
        self.assertGreaterEqual(hit.usage.prompt_tokens_details.cached_tokens, 64)


class Unicode(unittest.TestCase):
    def test_characters_of_several_tokens(self):
        prompt = EMOJI
        whole = answer(complete(prompt, temperature=0, max_tokens=30, logit_bias=ENDLESS))
        self.assertIn("🧪", whole)
        texts, _, chunks = collected(complete(prompt, temperature=0, max_tokens=30, logit_bias=ENDLESS, stream=True))
        self.assertEqual(texts[0], whole)
        self.assertFalse([chunk for chunk in chunks[:-1] if chunk.choices and "\ufffd" in chunk.choices[0].text])

    def test_texts_of_all_kinds(self):
        for text in ("Grüße, 世界, שלום", "a\u0000b", "\u202e\u200b", "e\u0301" * 20, "\t\r\n", "𝕏 👩‍👩‍👧‍👦", "\\u0041\"'"):
            result = complete(text, echo=True, max_tokens=0)
            self.assertEqual(answer(result), text)
            self.assertTrue(chat(text, max_tokens=2).id)


class Structure(unittest.TestCase):
    SCHEMA = {"type": "object", "additionalProperties": False, "required": ["name", "kind", "tags", "good"],
              "properties": {"name": {"type": "string", "maxLength": 10}, "kind": {"enum": ["cat", "dog"]},
                             "good": {"type": "boolean"},
                             "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}}}

    def form(self, schema, **more):
        return {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema, **more}}

    def check(self, pet):
        self.assertEqual(list(pet), ["name", "kind", "good", "tags"])
        self.assertIsInstance(pet["name"], str)
        self.assertLessEqual(len(pet["name"]), 10)
        self.assertIn(pet["kind"], ("cat", "dog"))
        self.assertIs(type(pet["good"]), bool)
        self.assertIn(len(pet["tags"]), (1, 2))
        self.assertLessEqual(set(pet["tags"]), {"a", "b"})

    def test_json_object(self):
        result = chat("Answer with a JSON object with the key a.", response_format={"type": "json_object"}, seed=1,
                      temperature=0, max_tokens=200)
        if result.choices[0].finish_reason == "stop":
            self.assertIsInstance(json.loads(answer(result)), dict)
        else:
            self.assertTrue(answer(result).lstrip().startswith("{"))
        self.assertTrue(answer(chat(response_format={"type": "text"})))

    def test_json_schema(self):
        for seed in range(4):
            result = chat("Describe a pet.", response_format=self.form(self.SCHEMA, strict=True), seed=seed,
                          max_tokens=200)
            self.assertEqual(result.choices[0].finish_reason, "stop")
            self.check(json.loads(answer(result)))
        texts, _, _ = collected(chat("Describe a pet.", response_format=self.form(self.SCHEMA, strict=True), seed=3,
                                     max_tokens=200, stream=True))
        self.assertEqual(texts[0], answer(result))
        plain = complete("A pet: ", extra_body={"response_format": self.form(self.SCHEMA)}, max_tokens=200, seed=1)
        self.check(json.loads(answer(plain)))

    def test_kinds_of_values(self):
        for schema, legal in (({"enum": ["yes", "no"]}, ("yes", "no")), ({"const": 7}, (7,)),
                              ({"type": "boolean"}, (True, False)), ({"type": "null"}, (None,)),
                              ({"anyOf": [{"const": 1}, {"const": "x"}]}, (1, "x"))):
            value = json.loads(answer(chat("Choose.", response_format=self.form(schema), seed=1, max_tokens=30)))
            self.assertIn(value, legal)

    def test_unsupported_keywords(self):
        for keyword, value in (("not", {"type": "null"}), ("if", {}), ("dependentRequired", {"a": ["b"]}),
                               ("nonsense", 1)):
            with self.assertRaises(openai.BadRequestError) as caught:
                chat(response_format=self.form({"type": "object", "properties": {}, keyword: value}))
            self.assertIn(keyword, caught.exception.message)


class Tools(unittest.TestCase):
    def tool(self, tool_name, parameters, required=None):
        return {"type": "function", "function": {
            "name": tool_name, "description": f"Call {tool_name}.", "parameters": {
                "type": "object", "properties": parameters, "required": required or list(parameters),
                "additionalProperties": False}}}

    def setUp(self):
        self.tools = [self.tool("weather", {"city": {"enum": ["Oslo", "Rome"]}}),
                      self.tool("clock", {"zone": {"enum": ["UTC", "CET"]}})]

    def check(self, call, only=None):
        self.assertTrue(call.id)
        self.assertEqual(call.type, "function")
        arguments = json.loads(call.function.arguments)
        self.assertIn(call.function.name, [only] if only else ["weather", "clock"])
        if call.function.name == "weather":
            self.assertIn(arguments["city"], ("Oslo", "Rome"))
        else:
            self.assertIn(arguments["zone"], ("UTC", "CET"))

    def test_required(self):
        result = chat("How is the weather in Rome?", tools=self.tools, tool_choice="required", seed=1, max_tokens=100)
        self.assertEqual(result.choices[0].finish_reason, "tool_calls")
        self.assertGreaterEqual(len(result.choices[0].message.tool_calls), 1)
        for call in result.choices[0].message.tool_calls:
            self.check(call)

    def test_named(self):
        choice = {"type": "function", "function": {"name": "clock"}}
        result = chat("How is the weather in Rome?", tools=self.tools, tool_choice=choice, seed=1, max_tokens=100)
        self.check(result.choices[0].message.tool_calls[0], "clock")

    def test_auto_and_none(self):
        result = chat("Say hello.", tools=self.tools, tool_choice="auto", seed=1, max_tokens=100)
        for call in result.choices[0].message.tool_calls or []:
            self.check(call)
        result = chat("Say hello.", tools=self.tools, tool_choice="none", seed=1)
        self.assertIsNone(result.choices[0].message.tool_calls)
        self.assertTrue(result.choices[0].message.content)

    def test_one_call_at_most(self):
        result = chat("The weather in Rome and in Oslo?", tools=self.tools, tool_choice="required", seed=2,
                      parallel_tool_calls=False, max_tokens=100)
        self.assertEqual(len(result.choices[0].message.tool_calls), 1)

    def test_streamed(self):
        options = dict(text="The weather in Oslo?", tools=self.tools, tool_choice="required", seed=3, max_tokens=100)
        whole = chat(**options).choices[0].message.tool_calls
        calls, reasons = {}, []
        for chunk in chat(**options, stream=True):
            for choice in chunk.choices:
                reasons += [choice.finish_reason] if choice.finish_reason else []
                for part in choice.delta.tool_calls or []:
                    known = calls.setdefault(part.index, {"id": part.id, "name": "", "arguments": ""})
                    known["name"] += part.function.name or ""
                    known["arguments"] += part.function.arguments or ""
        self.assertEqual(reasons, ["tool_calls"])
        self.assertEqual([(call["name"], call["arguments"]) for call in calls.values()],
                         [(call.function.name, call.function.arguments) for call in whole])
        self.assertTrue(all(call["id"] for call in calls.values()))

    def test_results_go_back(self):
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
        result = chat(messages=[*user("The weather in Oslo?"), {"role": "assistant", "content": None, "tool_calls": [call]},
                                {"role": "tool", "tool_call_id": "call_1", "content": "Snow."}], tools=self.tools,
                      tool_choice="none", temperature=0)
        self.assertTrue(answer(result))


class Embeddings(unittest.TestCase):
    def test_forms(self):
        texts = ["A cat sat on the mat.", "A kitten rested on the rug.", "Interest rates rose by two points."]
        vectors = [row.embedding for row in client.embeddings.create(model=name, input=texts).data]  # base64 within
        floats = [row.embedding for row in client.embeddings.create(model=name, input=texts, encoding_format="float").data]
        self.assertEqual(len(vectors[0]), len(floats[0]))
        for left, right in zip(vectors, floats):
            for value, other in zip(left, right):
                self.assertAlmostEqual(value, other, places=5)
        packed = client.embeddings.create(model=name, input=texts[0], encoding_format="base64").data[0].embedding
        if isinstance(packed, str):
            data = base64.b64decode(packed)
            packed = struct.unpack(f"<{len(data) // 4}f", data)
        self.assertEqual(len(packed), len(floats[0]))
        one = client.embeddings.create(model=name, input=texts[0], encoding_format="float")
        self.assertEqual(one.data[0].embedding, floats[0])
        ids = [server.tokens(text) for text in texts]
        by_ids = client.embeddings.create(model=name, input=ids, encoding_format="float")
        self.assertEqual([row.embedding for row in by_ids.data], floats)
        self.assertEqual(by_ids.usage.prompt_tokens, sum(map(len, ids)))
        flat = client.embeddings.create(model=name, input=ids[0], encoding_format="float", dimensions=len(floats[0]))
        self.assertEqual(flat.data[0].embedding, floats[0])

        def likeness(left, right):
            return sum(a * b for a, b in zip(left, right)) / math.sqrt(
                sum(a * a for a in left) * sum(b * b for b in right))

        self.assertGreater(likeness(floats[0], floats[1]), likeness(floats[0], floats[2]))

    def test_refusals(self):
        for fields in ({"input": []}, {"input": "a", "dimensions": 3}, {"input": [1 << 40]}):
            with self.assertRaises(openai.BadRequestError):
                client.embeddings.create(model=name, **fields)


class Models(unittest.TestCase):
    def test_list_and_retrieve(self):
        models = client.models.list().data
        self.assertEqual(models[0].id, name)
        self.assertEqual(models[0].owned_by, "adze")
        one = client.models.retrieve(name)
        self.assertEqual(one, models[0])
        self.assertEqual(extra(one)["kind"], "generator")
        self.assertEqual(extra(one)["context"], 8192)
        with self.assertRaises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-9")
        self.assertEqual(caught.exception.code, "model_not_found")


class Errors(unittest.TestCase):
    def refused(self, kind, *parts, call=None, code=..., **fields):
        with self.assertRaises(kind) as caught:
            (call or chat)(**fields)
        error = caught.exception
        self.assertEqual(set(error.body), {"message", "type", "param", "code"})
        if code is not ...:
            self.assertEqual(error.code, code)
        for part in parts:
            self.assertIn(part, f"{error.message} {error.param}")
        return error

    def test_unknown_fields(self):
        for field in ("temprature", "mirostat", "max_token"):
            self.refused(openai.BadRequestError, field, extra_body={field: 1})
            self.refused(openai.BadRequestError, field, call=complete, extra_body={field: 1})
        # Fields of OpenAI's that are not supported are named, not dropped.
        self.refused(openai.BadRequestError, "service_tier", service_tier="flex")
        self.refused(openai.BadRequestError, "reasoning_effort", reasoning_effort="low")
        self.refused(openai.BadRequestError, "suffix", call=complete, suffix="x")
        self.refused(openai.BadRequestError, "best_of", call=complete, best_of=3)
        self.refused(openai.BadRequestError, "session", extra_body={"session": "no/slash"})

    def test_types(self):
        for field, value in (("temperature", "warm"), ("n", "two"), ("stop", 5), ("logprobs", 3), ("stream", "yes"),
                             ("logit_bias", [1]), ("tools", {}), ("response_format", "json"), ("user", 7)):
            self.refused(openai.BadRequestError, field, extra_body={field: value})

    def test_ranges(self):
        for field, values in {"temperature": (-1, 101, 1e300), "top_p": (-1, 0, 2), "frequency_penalty": (-3, 3),
                              "presence_penalty": (-3, 3), "n": (-1, 0, 129, 1 << 62), "seed": (1 << 65,),
                              "max_tokens": (-1, -(1 << 62)), "top_logprobs": (-1, 21, 1 << 40)}.items():
            for value in values:
                more = {"logprobs": True} if field == "top_logprobs" else {}
                self.refused(openai.BadRequestError, field, **more, **{field: value})
        for field, values in {"top_k": (-2, 1.5), "min_p": (-1, 2), "repetition_penalty": (0, -1, 1e9),
                              "guesses": (-1, 16), "timeout_seconds": (0, -1)}.items():
            for value in values:
                self.refused(openai.BadRequestError, field, extra_body={field: value})
        self.refused(openai.BadRequestError, "logprobs", call=complete, logprobs=21)
        self.refused(openai.BadRequestError, "logit_bias", logit_bias={"49152": 1})
        self.refused(openai.BadRequestError, "stop", stop=["x"] * 17)

    def test_values_that_are_no_numbers(self):
        """The client cannot send these."""
        for value in ("NaN", "Infinity", "-Infinity", "1e999"):
            reply = server.post("/v1/completions", f'{{"prompt":"a","temperature":{value}}}'.encode())
            self.assertEqual((reply.status, reply.error["type"]), (400, "invalid_request_error"))

    def test_top_logprobs_without_logprobs(self):
        self.refused(openai.BadRequestError, "logprobs", top_logprobs=3)

    def test_contexts(self):
        self.refused(openai.BadRequestError, "8192", code="context_length_exceeded", text="word " * 9000)
        self.refused(openai.BadRequestError, code="context_length_exceeded", call=complete, prompt=[5] * 8200)

    def test_models_and_keys(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt-9", messages=user("Hi"))
        self.assertEqual(caught.exception.code, "model_not_found")
        for key in ("wrong", KEYS[0][:-1], KEYS[0] + "0"):
            with self.assertRaises(openai.AuthenticationError) as caught:
                make_client(key).models.list()
            self.assertEqual(caught.exception.code, "invalid_api_key")
        with self.assertRaises(openai.AuthenticationError):
            client.models.list(extra_headers={"Authorization": openai.Omit()})
        self.assertEqual(make_client(KEYS[1]).models.list().data[0].id, name)
        with self.assertRaises(openai.NotFoundError):
            client.post("/none", cast_to=object, body={})

    def test_schemas(self):
        for schema in ({"type": "thing"}, {"$ref": "#"}, {"enum": []}, {"type": "string", "pattern": "("}):
            self.refused(openai.BadRequestError, response_format={"type": "json_schema", "json_schema": {
                "name": "x", "schema": schema}})


class Time(unittest.TestCase):
    def test_the_client_gives_up(self):
        impatient = client.with_options(timeout=0.5)
        with self.assertRaises(openai.APITimeoutError):
            impatient.chat.completions.create(model=name, messages=user("Hi"), max_tokens=4000, logit_bias=ENDLESS)
        server.wait_idle(10)

    def test_the_server_gives_up(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            chat("Hi", max_tokens=4000, logit_bias=ENDLESS, extra_body={"timeout_seconds": 0.5})
        self.assertEqual(caught.exception.status_code, 504)
        self.assertEqual(caught.exception.code, "timeout")
        with self.assertRaises(openai.APIError) as caught:
            for _ in chat("Hi", max_tokens=4000, logit_bias=ENDLESS, stream=True, extra_body={"timeout_seconds": 0.5}):
                pass
        self.assertEqual(caught.exception.code, "timeout")
        server.wait_idle(10)
        self.assertTrue(answer(chat(extra_body={"timeout_seconds": 60})))

    def test_cancelled_in_mid_stream(self):
        for call in (lambda: chat("A story.", max_tokens=4000, logit_bias=ENDLESS, stream=True),
                     lambda: complete("A story.", max_tokens=4000, logit_bias=ENDLESS, stream=True, n=4)):
            stream = call()
            for number, _ in enumerate(stream):
                if number == 5:
                    break
            busy = server.metrics()
            self.assertGreater(busy[RUNNING], 0)
            self.assertGreater(busy[PAGES_USED], 0)
            stream.close()
            server.wait_idle(10)


class Together(unittest.TestCase):
    def test_async_client(self):
        async def ask():
            async with make_async_client() as asynchronous:
                whole = await asynchronous.chat.completions.create(model=name, messages=user(COUNT), temperature=0,
                                                                   max_tokens=12)
                stream = await asynchronous.chat.completions.create(model=name, messages=user(COUNT), temperature=0,
                                                                    max_tokens=12, stream=True)
                parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
                models = await asynchronous.models.list()
                vectors = await asynchronous.embeddings.create(model=name, input="Hello")
                return answer(whole), "".join(parts), models.data[0].id, len(vectors.data[0].embedding)

        whole, streamed, found, size = asyncio.run(ask())
        self.assertEqual((whole, found), (streamed, name))
        self.assertGreater(size, 0)

    def test_alone_in_a_batch_and_with_a_prefix_hit(self):
        """Temperature 0 and seeded sampling: the same text alone, with a prefix hit, and among 32 at once."""
        def body(number):
            return dict(model=name, prompt=f"{STORY * (number % 4)} Chapter {number}.", max_tokens=12,
                        temperature=0.9 if number % 2 else 0, seed=number, logprobs=2)

        alone = [client.completions.create(**body(number)) for number in range(32)]
        hits = [client.completions.create(**body(number)) for number in range(32)]
        self.assertGreater(sum(hit.usage.prompt_tokens_details.cached_tokens for hit in hits), 0)
        fresh = [client.completions.create(**body(number), extra_body={"cache_salt": f"s{number}"}) for number in range(8)]
        self.assertEqual([hit.usage.prompt_tokens_details.cached_tokens for hit in fresh], [0] * 8)

        async def at_once():
            async with make_async_client() as asynchronous:
                return await asyncio.gather(*(asynchronous.completions.create(**body(number)) for number in range(32)))

        batch = asyncio.run(at_once())
        for other in (hits, batch, fresh):
            for expected, found in zip(alone, other):
                self.assertEqual(found.choices, expected.choices)


def setUpModule():
    global server, client, name
    adze_program.default_model()
    server = Server("--max-sequences", 32, keys=KEYS).__enter__()
    client = make_client()
    name = client.models.list().data[0].id


def tearDownModule():
    server.wait_idle()
    client.close()
    server.__exit__(None, None, None)
    print(f"{Calls.total} calls of the openai client {openai.__version__}: {Calls.streams} streamed, "
          f"{Calls.failed} refused as they should be", file=sys.stderr)
    assert Calls.total >= CALLS_WANTED or len(sys.argv) > 1, Calls.total


if __name__ == "__main__":
    unittest.main()
