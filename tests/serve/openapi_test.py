"""GET /openapi.json against the server it describes: the file is sound, each route and method in it answers
and no other does, each field of a request is accepted and no other is, and answers have exactly the
members that are written down. Python's standard library alone."""

import json
import re
import tempfile
import unittest

import adze_program
from adze_server import CHAT, COMPLETIONS, EMBEDDINGS, Server, user

METHODS = ("get", "post", "put", "delete", "patch")
KEYWORDS = {"$ref", "type", "description", "properties", "required", "additionalProperties", "items", "enum", "const",
            "oneOf", "default", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "minItems", "maxItems", "pattern",
            "propertyNames"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "strict": True, "parameters": {
    "type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": False}}}

# For each field of a request: legal values, each sent with the smallest request that it goes with.
SAMPLING = {"temperature": [0, 1.5, 100], "top_p": [0.5, 1], "top_k": [-1, 0, 5], "min_p": [0, 0.1, 1],
            "repetition_penalty": [1, 1.5], "frequency_penalty": [-2, 0, 2], "presence_penalty": [-2, 0, 2],
            "logit_bias": [{}, {"5": -100, "6": 100}], "seed": [-1, 0, 7, (1 << 53) - 1], "stop": ["x", ["x"], ["a"] * 16],
            "n": [1, 3], "stream": [False, True], "stream_options": [{"include_usage": True}, {"include_usage": False}],
            "response_format": [{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {
                "name": "n", "description": "d", "strict": True, "schema": {"enum": [1, 2]}}}],
            "user": ["u"], "kv_policy": ["full", "window:sinks=4,window=60"],
            "kv_store": ["f16", "f32", "bf16", "int8"], "answer_strategy": ["first"], "cache_salt": ["s"],
            "guesses": [0, 4], "ignore_eos": [True, False], "timeout_seconds": [30, 0.5e3], "cache_picture": [True, False], "model": ["MODEL"]}
VALUES = {
    "ChatRequest": {**SAMPLING, "messages": [
        user("Hi"), [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]}],
        [{"role": "developer", "content": "s"}, {"role": "user", "name": "n", "content": "t"}],
        [{"role": "assistant", "content": "s", "refusal": None, "audio": None, "function_call": None, "annotations": [],
          "tool_calls": None}, {"role": "user", "content": "t"}]],
        "max_tokens": [1], "max_completion_tokens": [1], "logprobs": [True, False], "top_logprobs": [0, 20],
        "tools": [[TOOL]], "tool_choice": ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}],
        "parallel_tool_calls": [True, False], "session": ["session-1", "session-2"]},
    "CompletionRequest": {**SAMPLING, "prompt": ["a", ["a", "b"], [5, 6], [[5], [6, 7]]], "max_tokens": [0, 1],
                          "session": [None], "echo": [True, False], "logprobs": [None, 0, 20], "best_of": [1], "suffix": [None]},
    "EmbeddingRequest": {"model": ["MODEL"], "input": ["a", ["a", "b"], [5, 6], [[5], [6, 7]]],
                         "encoding_format": ["float", "base64"], "dimensions": ["SIZE"], "timeout_seconds": [60],
                         "user": ["u"]},
    "TokenizeRequest": {"model": ["MODEL"], "content": ["a"], "prompt": ["a"], "add_special": [True, False],
                        "with_pieces": [True, False]},
    "DetokenizeRequest": {"model": ["MODEL"], "tokens": [[], [5, 6]]},
}
WITH = {"stream_options": {"stream": True}, "top_logprobs": {"logprobs": True}, "tool_choice": {"tools": [TOOL]},
        "parallel_tool_calls": {"tools": [TOOL]}}
SMALLEST = {"ChatRequest": {"messages": user("Hi"), "max_tokens": 2}, "CompletionRequest": {"prompt": "a", "max_tokens": 2},
            "EmbeddingRequest": {"model": "MODEL", "input": "a"}, "TokenizeRequest": {"content": "a"},
            "DetokenizeRequest": {"tokens": [5]}}


def smallest(kind, field):
    body = dict(SMALLEST[kind])
    if kind == "TokenizeRequest" and field == "prompt":
        body = {}
    if field == "max_completion_tokens":
        del body["max_tokens"]
    if kind == "CompletionRequest" and field == "max_tokens":
        body["echo"] = True
    return {**body, **WITH.get(field, {})}


class Schemas:
    """As much of JSON Schema as the file uses."""

    def __init__(self, document):
        self.document = document

    def resolve(self, schema):
        while "$ref" in schema:
            node = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                node = node[part]
            schema = node
        return schema

    def faults(self, value, schema, place="$"):
        schema = self.resolve(schema)
        if "oneOf" in schema:
            found = [self.faults(value, option, place) for option in schema["oneOf"]]
            return [] if [] in found else [f"{place}: {value!r:.80} is none of oneOf: {found}"]
        if "const" in schema and value != schema["const"]:
            return [f"{place}: expected {schema['const']!r}, got {value!r:.80}"]
        if "enum" in schema and value not in schema["enum"]:
            return [f"{place}: expected one of {schema['enum']}, got {value!r:.80}"]
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(self.is_a(value, kind) for kind in kinds):
            return [f"{place}: expected {kinds}, got {value!r:.80}"]
        found = []
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if value < schema.get("minimum", value) or value > schema.get("maximum", value):
                found.append(f"{place}: {value} is out of range")
        if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{place}: {value!r} does not match {schema['pattern']}")
        if isinstance(value, list):
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
                found.append(f"{place}: {len(value)} items")
            for number, item in enumerate(value):
                found += self.faults(item, schema.get("items", {}), f"{place}[{number}]")
        if isinstance(value, dict) and "properties" in schema:
            found += [f"{place}: lacks {key}" for key in schema.get("required", []) if key not in value]
            for key, item in value.items():
                if key in schema["properties"]:
                    found += self.faults(item, schema["properties"][key], f"{place}.{key}")
                elif schema.get("additionalProperties") is False:
                    found.append(f"{place}: has {key}, which is not written down")
        return found

    @staticmethod
    def is_a(value, kind):
        if kind in ("integer", "number"):
            return isinstance(value, (int,) if kind == "integer" else (int, float)) and not isinstance(value, bool)
        return isinstance(value, TYPES[kind])


class OpenApi(unittest.TestCase):
    maxDiff = 4000

    def conforms(self, value, schema):
        self.assertEqual(schemas.faults(value, {"$ref": f"#/components/schemas/{schema}"}), [])

    def operations(self):
        return [(path, method, operation) for path, methods in document["paths"].items()
                for method, operation in methods.items()]

    def test_structure(self):
        self.assertRegex(document["openapi"], r"^3\.1\.\d+$")
        self.assertLessEqual(set(document), {"openapi", "info", "servers", "security", "paths", "components", "tags"})
        self.assertLessEqual({"title", "version"}, set(document["info"]))
        names = []
        for path, method, operation in self.operations():
            with self.subTest(path=path, method=method):
                self.assertTrue(path.startswith("/"))
                self.assertIn(method, METHODS)
                names.append(operation["operationId"])
                in_path = set(re.findall(r"\{(\w+)\}", path))
                listed = operation.get("parameters", [])
                self.assertEqual({entry["name"] for entry in listed if entry["in"] == "path"}, in_path)
                for entry in listed:
                    self.assertIn(entry["in"], ("path", "query"))
                    self.assertEqual(entry["required"], entry["in"] == "path")
                    self.walk_schema(entry["schema"])
                self.assertEqual("requestBody" in operation, method == "post")
                for status, response in operation["responses"].items():
                    self.assertRegex(status, r"^[1-5]\d\d$")
                    self.assertIn("description", schemas.resolve(response))
        self.assertEqual(len(names), len(set(names)))
        unused = set(document["components"]["schemas"])

        def walk(node):
            if isinstance(node, dict):
                if isinstance(node.get("$ref"), str):
                    self.assertIsInstance(schemas.resolve(node), dict)
                    unused.discard(node["$ref"].rsplit("/", 1)[1])
                for item in node.values():
                    walk(item)
            elif isinstance(node, list):
                for item in node:
                    walk(item)

        walk(document)
        self.assertEqual(unused, set(), "schemas that nothing refers to")
        for schema in document["components"]["schemas"].values():
            self.walk_schema(schema)

    def walk_schema(self, schema):
        self.assertLessEqual(set(schema), KEYWORDS)
        if "required" in schema:
            self.assertLessEqual(set(schema["required"]), set(schema["properties"]))
        for child in [*schema.get("properties", {}).values(), *schema.get("oneOf", []),
                      *([schema["items"]] if "items" in schema else [])]:
            self.walk_schema(child)

    def test_routes(self):
        for path, methods in document["paths"].items():
            real = path.replace("{id}", name).replace("{file}", "none")
            for method in METHODS:
                with self.subTest(path=path, method=method):
                    reply = server.request(method.upper(), real, b"{}" if method in ("post", "put", "patch") else None)
                    if method not in methods:
                        self.assertEqual(reply.status, 405)
                        continue
                    self.assertNotEqual(reply.status, 405)
                    self.assertIn(str(reply.status), methods[method]["responses"])
        for path in ("/v1", "/v1/", "/v1/chat", "/v1/responses", "/openapi.yaml", "/v1/completions/"):
            self.assertEqual(server.get(path).status, 404, path)

    def test_bodies_of_get(self):
        server.chat("Hi", max_tokens=1, session=name)
        for path, method, operation in self.operations():
            if method == "get" and "{file}" not in path:
                reply = server.get(path.replace("{id}", name))
                kind, content = next(iter(operation["responses"]["200"]["content"].items()))
                self.assertTrue(reply.headers["content-type"].startswith(kind), reply.headers["content-type"])
                if kind == "application/json":
                    self.assertEqual(schemas.faults(reply.json, content["schema"]), [], path)

    def fill(self, value):
        return {"MODEL": name, "SIZE": size}.get(value, value) if isinstance(value, str) else value

    def test_every_field_is_accepted(self):
        for path, method, operation in self.operations():
            if method != "post" or "{id}" in path:
                continue
            content = operation["requestBody"]["content"]["application/json"]
            kind = content["schema"]["$ref"].rsplit("/", 1)[1]
            fields = set(schemas.resolve(content["schema"])["properties"])
            self.assertEqual(fields, set(VALUES[kind]), f"{kind}: fields that this test does not know")
            answers = operation["responses"]["200"]["content"]
            whole, chunk = (answers.get(form, {}).get("schema") for form in ("application/json", "text/event-stream"))
            for field, values in VALUES[kind].items():
                for value in values:
                    body = {key: self.fill(item) for key, item in {**smallest(kind, field), field: value}.items()}
                    with self.subTest(kind=kind, field=field, value=value):
                        self.assertEqual(schemas.faults(body, content["schema"]), [])
                        if body.get("stream"):
                            for event in server.events(path, body):
                                self.assertEqual(schemas.faults(event, chunk), [])
                        else:
                            reply = server.post(path, body)
                            self.assertEqual(reply.status, 200, reply)
                            self.assertEqual(schemas.faults(reply.json, whole), [])

    def test_no_other_field_is(self):
        for path, method, operation in self.operations():
            if method == "post" and "{id}" not in path:
                kind = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
                body = {key: self.fill(item) for key, item in SMALLEST[kind].items()}
                for field in ("not_written_down", "logits", "functions", "metadata", "store"):
                    reply = server.post(path, {**body, field: 1})
                    self.assertEqual(reply.status, 400, reply)
                    self.conforms(reply.json, "Error")
                    self.assertIn(field, json.dumps(reply.json))

    def test_ranges_and_types(self):
        """What the file calls illegal is refused with the field's name."""
        for path, kind in ((CHAT, "ChatRequest"), (COMPLETIONS, "CompletionRequest"), (EMBEDDINGS, "EmbeddingRequest")):
            for field, schema in document["components"]["schemas"][kind]["properties"].items():
                schema = schemas.resolve(schema)
                kinds = schema.get("type", "")
                illegal = [[]] if "string" in kinds else []
                if "integer" in kinds or "number" in kinds:
                    illegal += ["1", {}, [1]]
                    for bound, step in (("minimum", -1), ("maximum", 1), ("exclusiveMinimum", 0)):
                        if bound in schema:
                            illegal.append(schema[bound] + step)
                if "boolean" in kinds:
                    illegal += [1, "true"]
                if "enum" in schema:
                    illegal.append("none of them")
                for value in illegal:
                    body = {**smallest(kind, field), field: value}
                    body = {key: self.fill(item) for key, item in body.items()}
                    with self.subTest(kind=kind, field=field, value=value):
                        reply = server.post(path, body)
                        self.assertEqual(reply.status, 400, reply)
                        self.assertIn(field, f"{reply.error['message']} {reply.error['param']}")

    def test_answers_with_everything_in_them(self):
        chat = server.chat("Hi", max_tokens=3, logprobs=True, top_logprobs=2, n=2, cache_picture=True)
        self.conforms(chat.json, "ChatResponse")
        self.assertIn("kept", chat.json["adze"]["cache"])
        self.conforms(server.complete("a", max_tokens=3, echo=True, logprobs=2, cache_picture=True).json,
                      "CompletionResponse")
        tools = server.chat("Hi", max_tokens=60, tools=[TOOL], tool_choice="required")
        self.conforms(tools.json, "ChatResponse")
        for path, body, schema in (
                (CHAT, {"messages": user("Hi"), "tools": [TOOL], "tool_choice": "required", "max_tokens": 60}, "ChatChunk"),
                (CHAT, {"messages": user("Hi"), "logprobs": True, "top_logprobs": 1, "max_tokens": 40,
                        "cache_picture": True, "stream_options": {"include_usage": True}}, "ChatChunk"),
                (COMPLETIONS, {"prompt": "a", "echo": True, "logprobs": 1, "max_tokens": 4,
                               "stream_options": {"include_usage": True}}, "CompletionChunk")):
            for event in server.events(path, body):
                self.conforms(event, schema)
        pieces = server.post("/tokenize", {"content": "Hi 🦙", "with_pieces": True}).json
        self.conforms(pieces, "TokenizeResponse")
        self.assertIsInstance(pieces["tokens"][0], dict)
        self.conforms(server.get("/nothing").json, "Error")
        self.conforms(server.get("/v1/models", key=None).json, "Error")


    def test_a_model_that_is_not_loaded(self):
        with Server("--model", f"other={adze_program.MODEL}") as two:
            listed = two.get("/v1/models").json
            self.conforms(listed, "ModelList")
            self.assertEqual([entry["adze"]["loaded"] for entry in listed["data"]], [True, False])
            self.assertEqual(listed["data"][1]["adze"] | {"loaded": True}, listed["data"][0]["adze"])


def setUpModule():
    global server, document, schemas, name, size
    adze_program.default_model()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as lab:
        json.dump({"model": "m", "context": 512, "chunks": 1, "rows": []}, lab)
        lab.flush()
        server = Server("--cache-lab", lab.name, keys=["key-0123456789abcdef"]).__enter__()
    document = server.get("/openapi.json").json
    schemas = Schemas(document)
    name = server.get("/v1/models").json["data"][0]["id"]
    size = len(server.post(EMBEDDINGS, {"model": name, "input": "a"}).json["data"][0]["embedding"])


def tearDownModule():
    server.__exit__(None, None, None)


if __name__ == "__main__":
    unittest.main()
