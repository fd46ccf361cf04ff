"""convert, inspect, plan, template and embed on the default model, as a user calls them."""

import json
import math
import pathlib
import shutil
import tempfile
import unittest

import adze_program
from adze_program import MODEL, run

GREEDY = ["--temperature", 0, "--max-tokens", 12]
PROMPT = "What is the capital of France?"


class Case(adze_program.Case):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-convert-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def answer(self, model):
        # Products of the same numbers in another type round otherwise, so they are exact here.
        return self.object("generate", "--model", model, "--prompt", PROMPT, "--compute", "f32",
                           *GREEDY)["text"]


class Convert(Case):
    def test_hugging_face_folder_and_back_answers_the_same(self):
        expected = self.answer(MODEL)
        # f32 holds the dequantised weights exactly, so both models are the same numbers.
        folder = self.object("convert", "--to", "hf", "--type", "f32", "--out", self.folder / "hf")
        self.assertEqual(folder["left_out"], [])
        self.assertEqual(self.answer(self.folder / "hf"), expected)
        inspected = self.object("inspect", self.folder / "hf")
        original = self.object("inspect", MODEL)
        for key in ("architecture", "parameters", "context_length", "num_layers", "hidden_size",
                    "heads", "kv_heads", "head_dim", "vocab_size", "cache_bytes_per_token",
                    "chat_template"):
            self.assertEqual(inspected[key], original[key], key)
        back = self.object("convert", "--model", self.folder / "hf", "--to", "gguf", "--type", "q4_1",
                           "--out", self.folder / "back")
        self.assertEqual(pathlib.Path(back["path"]), self.folder / "back" / "model.gguf")
        self.assertEqual(self.answer(self.folder / "back"), expected)
        self.assertEqual(self.answer(back["path"]), expected)

    def test_rows_that_fill_no_block_fall_back_and_are_listed(self):
        # 576 columns are no multiple of 256.
        report = self.object("convert", "--type", "q4_k_m", "--out", self.folder / "k.gguf")
        pairs = {(entry["wanted"], entry["used"]) for entry in report["fallbacks"]}
        self.assertEqual(pairs, {("q4_k", "q5_0"), ("q6_k", "q8_0")})
        self.assertIn("blk.0.attn_q.weight", [entry["tensor"] for entry in report["fallbacks"]])
        types = self.object("inspect", self.folder / "k.gguf")["types"]
        self.assertEqual(set(types), {"f32", "q4_k", "q5_0", "q6_k", "q8_0"})
        text = ["--file", "README.md", "--bytes", 2500]
        before = self.object("perplexity", *text)["perplexity"]
        after = self.object("perplexity", "--model", self.folder / "k.gguf", *text)["perplexity"]
        self.assertLess(after, 1.15 * before)

    def test_what_cannot_be_done_is_refused(self):
        out = self.folder / "x.gguf"
        self.assert_refused(2, ["--out", "none"], "convert")
        self.assert_refused(2, ["to", "gguf or hf", "onnx"], "convert", "--to", "onnx", "--out", out)
        self.assert_refused(2, ["type", "q4_k_m", "q9"], "convert", "--type", "q9", "--out", out)
        self.assert_refused(2, ["type", "f32, f16 or bf16", "q8_0"],
                            "convert", "--to", "hf", "--type", "q8_0", "--out", self.folder / "hf")
        self.assert_refused(1, ["config.json"], "convert", "--model", self.folder, "--out", out)
        self.assertFalse(out.exists())
        copy = self.folder / "own.gguf"
        shutil.copy(adze_program.default_model(), copy)
        self.assert_refused(2, ["out", "another place"], "convert", "--model", copy, "--out", copy)

    def test_damaged_folders_are_refused_by_name(self):
        hf = self.folder / "hf"
        self.object("convert", "--to", "hf", "--out", hf)
        config = json.loads((hf / "config.json").read_text())
        for key, value, parts in (("num_hidden_layers", 31, ["blk.30", "none"]),
                                  ("num_hidden_layers", 29, ["blk.29", "none of this name"]),
                                  ("hidden_size", 640, ["token_embd.weight", "640", "576"]),
                                  ("model_type", "mamba", ["model_type", "llama", "mamba"])):
            (hf / "config.json").write_text(json.dumps({**config, key: value}))
            with self.subTest(key=key, value=value):
                self.assert_refused(1, parts, "generate", "--model", hf, "--prompt", "x")
        (hf / "config.json").write_text("[" * 100000)
        self.assert_refused(1, ["config.json"], "inspect", hf)
        (hf / "config.json").write_text(json.dumps(config))
        with open(hf / "model.safetensors", "r+b") as file:
            file.truncate(1 << 20)
        self.assert_refused(1, ["model.safetensors"], "inspect", hf)


class Sharing(Case):
    """Copies whose layers share keys and values."""

    def test_pairs_halve_the_cache_and_everything_runs_on_the_copy(self):
        original = self.object("inspect", MODEL)
        self.assertEqual((original["kv_owners"], original["kv_source"]), (30, None))
        cache = original["cache_bytes_per_token"]
        self.assertEqual(original["unshared_cache_bytes_per_token"], cache)
        pairs = [layer - layer % 2 for layer in range(30)]
        plain = self.object("generate", "--prompt", PROMPT, *GREEDY)
        for to in ("gguf", "hf"):
            with self.subTest(to=to):
                out = self.folder / to
                report = self.object("convert", "--cla", "2", "--to", to, "--out", out)
                self.assertEqual(report["kv_source"], pairs)
                self.assertEqual(report["tensors"], original["tensors"] - 30)
                copy = self.object("inspect", out)
                self.assertEqual(copy["kv_source"], pairs)
                self.assertEqual(copy["kv_owners"], 15)
                self.assertEqual(2 * copy["cache_bytes_per_token"], cache)
                self.assertEqual(copy["unshared_cache_bytes_per_token"], cache)
                text = run("inspect", out).stdout.decode()
                self.assertIn("15 of 30 layers have their own: 0-1, 2-3, 4-5", text)
                self.assertIn("11.5 kB a token in f16", text)
                self.assertIn("without sharing 23.0 kB", text)
                answer = self.object("generate", "--model", out, "--prompt", PROMPT, *GREEDY)
                # Whole pages of 32 tokens: 37 of the prompt and up to 12 of the answer take two.
                self.assertEqual(2 * answer["cache_bytes"], plain["cache_bytes"])
        numbers = [self.object("perplexity", "--model", self.folder / to, "--file", "README.md",
                               "--bytes", 1000)["perplexity"] for to in ("gguf", "hf")]
        self.assertTrue(all(math.isfinite(number) for number in numbers))
        config = json.loads((self.folder / "hf/config.json").read_text())
        self.assertEqual(config["kv_sharing"], {"factor": 2, "remainder": "first"})

    def test_plan_counts_owners_for_memory_and_layers_for_speed(self):
        self.object("convert", "--cla", "3", "--out", self.folder / "copy")
        arguments = ["--memory", "8GiB", "--context", 4096]
        plain = self.object("plan", *arguments)
        copy = self.object("plan", "--model", self.folder / "copy", *arguments)
        self.assertEqual(3 * copy["cache_bytes"], plain["cache_bytes"])
        row, same = copy["rows"][0], plain["rows"][0]
        # The weights differ by the missing matrices alone: speed is not tripled.
        self.assertLess(row["decode_tokens_per_second"], 1.3 * same["decode_tokens_per_second"])

    def test_layouts_by_name_and_by_list(self):
        for layout, owners in (("1", 30), ("4:remainder=last", 8), ("keep-ends", 16),
                               ("dense-front", 16), ("dense-back", 16),
                               (",".join(["0"] * 29 + ["29"]), 2)):
            with self.subTest(layout=layout):
                out = self.folder / "copy.gguf"
                self.object("convert", "--cla", layout, "--out", out)
                self.assertEqual(self.object("inspect", out)["kv_owners"], owners)

    def test_layouts_that_cannot_be_are_refused(self):
        out = self.folder / "x.gguf"
        for layout, parts in (("0", ["cla", "1 to 30"]), ("31", ["cla", "1 to 30"]),
                              ("keepends", ["cla", "keep-ends", "keepends"]),
                              ("0,0", ["cla", "30 owners"])):
            self.assert_refused(2, parts, "convert", "--cla", layout, "--out", out)
        forward = ",".join(["0", "2"] + ["2"] * 28)
        self.assert_refused(1, ["kv_source", "layer 1"], "convert", "--cla", forward, "--out", out)
        self.object("convert", "--cla", "2", "--out", self.folder / "copy.gguf")
        self.assert_refused(1, ["cla", "own keys and values"], "convert", "--model",
                            self.folder / "copy.gguf", "--cla", "2", "--out", out)
        self.assertFalse(out.exists())


class Plan(Case):
    def test_rows_are_stores_and_policies(self):
        plan = self.object("plan", "--memory", "8GiB", "--context", 4096, "--sequences", 2)
        self.assertTrue(plan["fits"])
        rows = {(row["store"], row["policy"].split(":")[0]): row for row in plan["rows"]}
        full = rows["f16", "full"]
        cache = self.object("inspect", MODEL)["cache_bytes_per_token"]
        self.assertEqual(full["bytes"], 2 * 4096 * cache)
        self.assertEqual(plan["cache_bytes"], full["bytes"])
        self.assertEqual(rows["f32", "full"]["bytes"], 2 * full["bytes"])
        self.assertLess(rows["f16", "window"]["bytes"], full["bytes"])
        self.assertGreater(rows["f16", "window"]["decode_tokens_per_second"],
                           full["decode_tokens_per_second"])
        self.assertGreater(plan["weight_bytes"], 80e6)
        self.assertLess(plan["weight_bytes"], 120e6)

    def test_bounds_what_a_run_takes(self):
        # Whole processes, measured from outside, against what was promised for them.
        plan = self.object("plan", "--memory", "8GiB", "--context", 1024)
        script = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
                  "stdout=subprocess.DEVNULL); "
                  "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)")
        import subprocess
        import sys
        output = subprocess.run(
            [sys.executable, "-c", script, adze_program.ADZE, "bench", "--prompt-tokens", "900",
             "--decode-tokens", "8", "--repetitions", "1", "--context", "1024"],
            capture_output=True, check=True).stdout
        promised = plan["weight_bytes"] + plan["cache_bytes"] + plan["program_bytes"]
        # The file's own pages are mapped while it is packed, and the kernel may drop them.
        mapped = adze_program.default_model().stat().st_size
        self.assertLess(int(output), 1.1 * promised + mapped)

    def test_what_does_not_fit_is_said(self):
        plan = self.object("plan", "--memory", "300MB")
        self.assertFalse(plan["fits"])
        for value in ("0", "-1", "8 bananas", "nan", "1e99", ""):
            with self.subTest(value=value):
                self.assert_refused(2, ["memory"], "plan", "--memory", value)
        self.assert_refused(2, ["sequences", "1 to 65536"], "plan", "--memory", "1GB",
                            "--sequences", 0)


class Template(Case):
    def test_is_what_generate_shows_the_model(self):
        messages = self.folder / "m.json"
        messages.write_text(json.dumps([{"role": "user", "content": PROMPT}]))
        result = run("template", "--messages", messages, "--add-generation-prompt")
        self.assert_succeeds(result)
        text = result.stdout.decode()
        self.assertTrue(text.endswith("<|im_start|>assistant\n"), text)
        self.assertIn(f"<|im_start|>user\n{PROMPT}<|im_end|>\n", text)
        tokens = self.object("tokenize", "--text", text)["ids"]
        generated = self.object("generate", "--prompt", PROMPT, *GREEDY)
        self.assertEqual(len(tokens), generated["prompt_tokens"])

    def test_other_templates_tools_and_errors(self):
        messages = self.folder / "m.json"
        messages.write_text('[{"role": "user", "content": "hi"}]')
        tools = self.folder / "t.json"
        tools.write_text('[{"type": "function", "function": {"name": "look", "b": 1, "a": 2}}]')
        template = self.folder / "t.jinja"
        template.write_text("{{ tools | tojson }}{{ messages[0].content }}")
        result = run("template", "--messages", messages, "--tools", tools, "--template", template)
        self.assertEqual(
            result.stdout.decode(),
            '[{"type": "function", "function": {"name": "look", "b": 1, "a": 2}}]hi')
        template.write_text("{{ raise_exception('no such role') }}")
        self.assert_refused(1, ["no such role"], "template", "--messages", messages,
                            "--template", template)
        messages.write_text("{}")
        self.assert_refused(1, ["list of messages"], "template", "--messages", messages)
        self.assert_refused(2, ["--messages"], "template")


class Embed(Case):
    def test_vectors_have_length_one_and_do_not_depend_on_the_others(self):
        texts = ["A cat sat on the mat.", "A kitten lay on the rug.", "Interest rates rose again."]
        both = self.object("embed", "--file", "-", text="\n".join(texts).encode() + b"\n")
        self.assertEqual(len(both["embeddings"]), 3)
        for vector in both["embeddings"]:
            self.assertEqual(len(vector), both["dimensions"])
            self.assertAlmostEqual(math.sqrt(sum(x * x for x in vector)), 1, places=5)
        alone = self.object("embed", "--file", "-", text=texts[1].encode())
        self.assertEqual(alone["embeddings"][0], both["embeddings"][1])
        self.assert_refused(2, ["--file"], "embed")


if __name__ == "__main__":
    adze_program.default_model()
    unittest.main()
