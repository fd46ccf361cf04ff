"""Training from text to an answer: tokenize, train, die, resume, save, serve; and what is wrong with
options, data and folders. Runs the program that ADZE names; makes its own text."""

import gzip
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from adze_program import ADZE, Case, run
from train_data import TINY, make_data, write_documents

KILLS = int(os.environ.get("ADZE_KILLS", "8"))  # five of eight with one process, three with two


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def steps_done(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0


class Training(Case):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="adze-train-"))
        make_data(cls.root)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root, ignore_errors=True)

    def config(self, **changes):
        values = json.loads(TINY.read_text().replace("@DATA@", str(self.root / "data")))
        values.update({name.replace("_", "-"): value for name, value in changes.items()})
        path = self.root / f"config-{abs(hash(json.dumps(values, sort_keys=True)))}.json"
        path.write_text(json.dumps(values))
        return path

    def folder(self, name):
        path = self.root / "runs" / f"{self.id().rsplit('.', 1)[-1]}-{name}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def train(self, config, out, *flags):
        return self.object("train", "--config", config, "--out", out, *flags)

    def reference(self):
        """The run that nothing disturbs; made once."""
        out = self.root / "runs" / "reference"
        if not (out / "summary.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            self.train(self.config(), out)
        return out

    def test_a_run(self):
        out = self.reference()
        summary = json.loads((out / "summary.json").read_text())
        self.assertEqual(summary["steps"], 60)
        self.assertEqual(summary["tokens"], 60 * 2048)
        self.assertGreater(summary["tokens_per_second"], 0)
        self.assertGreater(summary["peak_memory_bytes"], 1 << 20)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        training = [row for row in rows if "loss" in row]
        evaluation = [row for row in rows if "validation_loss" in row]
        self.assertEqual([row["step"] for row in training], list(range(1, 61)))
        self.assertEqual([row["step"] for row in evaluation], [20, 40, 60])
        self.assertTrue(all("loss" not in row for row in evaluation))
        self.assertLess(training[-1]["loss"], training[0]["loss"] - 1)
        self.assertEqual(summary["train_loss"], training[-1]["loss"])
        self.assertEqual(summary["validation_loss"], evaluation[-1]["validation_loss"])
        self.assertLess(summary["validation_loss"], training[0]["loss"] - 1)
        self.assertEqual(training[4]["learning_rate"], 0.003)
        # Resuming a finished run changes nothing and says the same.
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
        again = self.train(self.config(), out, "--resume")
        self.assertEqual(again, summary)
        self.assertEqual({path: path.stat().st_mtime_ns for path in before}, before)

    def test_the_model_is_one(self):
        out = self.reference()
        self.assertEqual(self.object("inspect", out / "model")["architecture"], "llama")
        answer = self.object("generate", "--model", out / "model", "--raw", "--prompt",
                             "the river", "--max-tokens", 8, "--temperature", 0)
        self.assertTrue(answer["text"])
        # Scored by inference, the held-out text is as hard as training says.
        held = [json.loads(line)["text"] for line in
                (self.root / "text.jsonl").read_text().splitlines()[-8:]]
        self.assertEqual(len(held), 8)
        continued = self.train(self.config(model=str(out / "model"), steps=3, warmup_steps=0),
                               self.folder("on"))
        self.assertLess(continued["train_loss"], losses(out)[5])

    def await_steps(self, out, steps, process):
        deadline = time.monotonic() + 60
        while steps_done(out) < steps:
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.002)

    def test_killed_at_any_moment(self):
        """A run dies again and again, also while it starts, and ends with the bits of one that nothing disturbed."""
        expected = losses(self.reference())
        draw = random.Random(3)
        left = KILLS * 5 // 8
        while left > 0:
            out = self.folder(str(left))
            while left > 0 and steps_done(out) < 40:
                process = subprocess.Popen([ADZE, "train", "--config", self.config(), "--out", out, "--resume"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.await_steps(out, steps_done(out) + draw.randint(0, 9), process)
                time.sleep(draw.uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                self.assertEqual(process.wait(), -signal.SIGKILL)
                left -= 1
            died = steps_done(out)
            summary = self.train(self.config(), out, "--resume")
            self.assertEqual(losses(out), expected, f"killed after step {died}")
            self.assertEqual(summary["steps"], 60)
            for name in ("model.safetensors", "config.json"):
                self.assertEqual((out / "model" / name).read_bytes(),
                                 (self.reference() / "model" / name).read_bytes())

    def start_workers(self, size, config, out, *flags, threads=1, timeout=20):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [ADZE, "train", "--config", config, "--out", out, "--threads", str(threads),
                   "--worker-timeout", str(timeout), *flags]
        return [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=dict(os.environ, RANK=str(rank), WORLD_SIZE=str(size),
                                          MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)))
                for rank in range(size)]

    def finish(self, workers):
        results = [worker.communicate(timeout=120) for worker in workers]
        for worker, (_, message) in zip(workers, results):
            self.assertEqual(worker.returncode, 0, message.decode())
        return results

    def test_several_processes_are_one_run(self):
        config = self.config(steps=50)
        alone = self.folder("1")
        self.train(config, alone, "--threads", 1)
        expected = losses(alone)
        for size in (2, 4):
            out = self.folder(str(size))
            results = self.finish(self.start_workers(size, config, out, "--json"))
            self.assertEqual(json.loads(results[0][0])["workers"], size)
            self.assertEqual([output for output, _ in results[1:]], [b""] * (size - 1))
            curve = losses(out)
            self.assertEqual(list(curve), list(expected))
            for step, loss in expected.items():
                self.assertLess(abs(curve[step] / loss - 1), 1e-5, f"{size} processes, step {step}")

    def test_a_lost_process_ends_the_run_and_another_number_goes_on(self):
        whole = self.folder("whole")
        self.finish(self.start_workers(2, self.config(), whole))
        draw = random.Random(4)
        left = KILLS - KILLS * 5 // 8
        alone = True  # the first is gone on with by one process
        while left > 0:
            out = self.folder(str(left))
            while left > 0 and steps_done(out) < 40:
                workers = self.start_workers(2, self.config(), out, "--resume")
                dies = draw.randint(0, 1)
                # Rows that are there may be cut back; one more than those means that both have met.
                self.await_steps(out, steps_done(out) + draw.randint(1, 9), workers[dies])
                time.sleep(draw.uniform(0, 0.05))
                workers[dies].kill()
                start = time.monotonic()
                message = workers[1 - dies].communicate(timeout=60)[1].decode()
                self.assertLess(time.monotonic() - start, 30)
                self.assertEqual(workers[1 - dies].returncode, 1, message)
                self.assertIn("a process is lost or late", message)
                workers[dies].communicate()
                self.assertEqual(workers[dies].returncode, -signal.SIGKILL)
                left -= 1
                if alone:
                    break
            if alone:
                alone = False
                died = steps_done(out)
                self.train(self.config(), out, "--resume", "--threads", 1)
                for step, loss in losses(whole).items():
                    # One process rounds its sums otherwise, by some 1e-9 of a loss; steps make more of it.
                    limit = 1e-7 if step <= died + 5 else 1e-3
                    self.assertLess(abs(losses(out)[step] / loss - 1), limit, f"step {step}, died after {died}")
            else:
                self.finish(self.start_workers(2, self.config(), out, "--resume"))
                self.assertEqual(losses(out), losses(whole))

    def test_a_finished_run_needs_nobody(self):
        """The others wait in vain for process 0, which writes the model, and leave; then it finds them gone."""
        out = self.folder("2")
        workers = self.start_workers(2, self.config(steps=10), out, "--json", timeout=4)
        deadline = time.monotonic() + 60
        while not (out / "model").exists():
            self.assertIsNone(workers[0].poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.0005)
        workers[0].send_signal(signal.SIGSTOP)
        time.sleep(6)
        workers[0].send_signal(signal.SIGCONT)
        results = self.finish(workers)
        self.assertEqual(json.loads(results[0][0])["steps"], 10)

    def test_wrong_places(self):
        for variables, part in (({"WORLD_SIZE": "two"}, "WORLD_SIZE"), ({"WORLD_SIZE": "2"}, "RANK"),
                                ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK"),
                                ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "0"}, "MASTER_PORT")):
            out = self.folder("x")
            self.assert_refused(1, [part], "train", "--config", self.config(), "--out", out,
                                env=dict(os.environ, **variables))
            self.assertFalse(out.exists())

    def test_damaged_checkpoints_are_passed_over(self):
        expected = losses(self.reference())
        for damage in ("flip", "tear", "manifest", "missing"):
            out = self.folder(damage)
            config = self.config(keep_checkpoints=3)
            process = subprocess.Popen([ADZE, "train", "--config", config, "--out", out],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not list(out.glob("checkpoints/step-*15/manifest.json")):
                self.assertIsNone(process.poll())
                time.sleep(0.002)
            process.kill()
            process.wait()
            newest = sorted(path for path in out.glob("checkpoints/step-*")
                            if path.suffix != ".part")[-1]
            values = newest / "values.bin"
            if damage == "flip":
                content = bytearray(values.read_bytes())
                content[1000] ^= 1
                values.write_bytes(content)
            elif damage == "tear":
                os.truncate(values, 4096)
            elif damage == "manifest":
                path = newest / "manifest.json"
                path.write_text(path.read_text().replace('"step": ', '"step": 1'))
            else:
                (newest / "optimizer.bin").unlink()
            result = run("train", "--config", self.config(keep_checkpoints=1), "--out", out, "--resume", "--json")
            self.assert_succeeds(result)
            message = result.stderr.decode()
            self.assertIn(f"checkpoint {newest.name} is damaged", message)
            self.assertEqual([path.name for path in out.glob("checkpoints/*")], ["step-0000000060"])
            self.assertIn("resuming after step", message)
            self.assertEqual(losses(out), expected)

    def test_no_checkpoint_is_whole(self):
        out = self.folder("all")
        shutil.copytree(self.reference(), out)
        (out / "summary.json").unlink()
        for checkpoint in out.glob("checkpoints/step-*"):
            os.truncate(checkpoint / "values.bin", 4096)
        kept = {name: (out / name).read_bytes() for name in ("config.json", "metrics.jsonl")}
        result = run("train", "--config", self.config(keep_checkpoints=1), "--out", out, "--resume")
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"expected a checkpoint that is whole, got none of 2; nothing is changed", result.stderr)
        self.assertEqual({name: (out / name).read_bytes() for name in kept}, kept)
        self.assertEqual(len(list(out.glob("checkpoints/step-*"))), 2)

    def test_other_documents_under_the_same_name(self):
        folder = self.folder("data")
        data, text = folder / "tokens", folder / "other.jsonl"
        shutil.copytree(self.root / "data", data)
        config = self.config(data=str(data), steps=10)
        out = self.folder("run")
        self.train(config, out)
        (out / "summary.json").unlink()
        shutil.rmtree(data)
        write_documents(text, 600, 2)
        self.object("data", "tokenize", "--input", text, "--tokenizer", self.root / "tokenizer", "--out", data)
        self.assert_refused(1, ["data: expected the documents that the run began with"], "train", "--config", config,
                            "--out", out, "--resume")
        self.assertEqual(len(losses(out)), 10)
        # A checkpoint from before they were noted goes on. Its checksum is of the info with sorted keys.
        path = max(out.glob("checkpoints/step-*")) / "manifest.json"
        text = re.sub(r',\s*"documents_sha256": "\w+"', "", path.read_text())
        manifest = json.loads(text, parse_float=str)
        info = ",".join(f'"{name}":{"null" if value is None else value}'
                        for name, value in sorted(manifest["info"].items()))
        checksum = hashlib.sha256(("{" + info + "}").encode()).hexdigest()
        path.write_text(text.replace(manifest["info_sha256"], checksum))
        result = run("train", "--config", config, "--out", out, "--resume")
        self.assert_succeeds(result)
        self.assertIn(b"resuming after step 10", result.stderr)

    def test_resume_without_a_checkpoint_begins(self):
        out = self.folder("new")
        out.mkdir(parents=True)
        (out / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n{"st')
        self.train(self.config(), out, "--resume")
        self.assertEqual(losses(out), losses(self.reference()))

    def test_interrupted_in_order(self):
        out = self.folder("int")
        process = subprocess.Popen([ADZE, "train", "--config", self.config(), "--out", out],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not (out / "metrics.jsonl").exists() or len(losses(out)) < 8:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        message = process.communicate()[1].decode()
        self.assertEqual(process.returncode, 1, message)
        self.assertIn("--resume goes on", message)
        self.train(self.config(), out, "--resume")
        self.assertEqual(losses(out), losses(self.reference()))

    def test_accumulation_is_the_large_batch(self):
        results = []
        for rows in (2048, 512, 128):
            out = self.folder(str(rows))
            self.train(self.config(micro_batch_tokens=rows, steps=10), out)
            results.append(losses(out))
        for step in range(1, 11):
            for other in results[1:]:
                self.assertAlmostEqual(other[step], results[0][step], delta=2e-4)

    def test_micro_batches_do_not_change_the_validation_loss(self):
        seen = []
        for rows in (1024, 32):
            config = self.config(model=str(self.reference() / "model"), steps=2, warmup_steps=0, learning_rate=1e-9,
                                 micro_batch_tokens=rows)
            seen.append(self.train(config, self.folder(str(rows)))["validation_loss"])
        self.assertAlmostEqual(seen[0], seen[1], delta=1e-5)

    def test_a_model_is_gone_on_with_in_its_own_tokens(self):
        base = self.folder("base")
        shutil.copytree(self.reference() / "model", base)
        template = "{{ messages[0]['content'] }}"
        (base / "chat_template.jinja").write_text(template)
        out = self.folder("on")
        self.train(self.config(model=str(base), steps=2, warmup_steps=0), out)
        written = json.loads((out / "model" / "tokenizer_config.json").read_text())
        self.assertEqual(written["chat_template"], template)
        # As many tokens, but others.
        folder = self.folder("other")
        folder.mkdir(parents=True)
        texts = [json.loads(line)["text"] for line in (self.root / "text.jsonl").read_text().splitlines()]
        (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": text[::-1]}) for text in texts))
        self.object("data", "train-tokenizer", "--input", folder / "text.jsonl", "--vocab-size", 320, "--out",
                    folder / "tokenizer")
        self.object("data", "tokenize", "--input", folder / "text.jsonl", "--tokenizer", folder / "tokenizer", "--out",
                    folder / "data")
        config = self.config(data=str(folder / "data"), model=str(base))
        for flags in ([], ["--lora-rank", 2]):
            out = self.folder("x")
            self.assert_refused(1, ["data: expected the tokenizer of", base, "whose token"], "train", "--config",
                                config, "--out", out, *flags)
            self.assertFalse(out.exists())

    def test_every_source_and_optimizer_learns(self):
        for name, changes in {
                "masked": {"batches": "concat:length=128,mask=true"},
                "packed": {"batches": "pack:length=128"},
                "buckets": {"batches": "dataset-decomposition:shortest=16,longest=128,cycles=2"},
                "fadam": {"optimizer": "fadam"},
                "shared": {"kv_source": [0, 0]},
                "norms": {"kv_source": [0, 0], "separate_norms": True},
                "wsd": {"schedule": "wsd", "tied_output": False, "architecture": "qwen3"}}.items():
            out = self.folder(name)
            summary = self.train(self.config(steps=30, **changes), out)
            curve = losses(out)
            self.assertLess(curve[30], curve[1] - 1, name)
            self.assertIsNotNone(summary["validation_loss"])
            sharing = json.loads((out / "model" / "config.json").read_text()).get("kv_sharing") or {}
            self.assertEqual(sharing.get("separate_norms", False), name == "norms")
            self.assert_succeeds(run("generate", "--model", out / "model", "--raw", "--prompt", "a",
                                     "--max-tokens", 2))

    def test_wrong_options(self):
        config = self.config()
        for parts, changes in ((["steps", "1 to", "0"], {"steps": 0}),
                               (["heads", "divisor of 64"], {"heads": 5}),
                               (["kv_heads", "divisor"], {"kv_heads": 3}),
                               (["batches", "did you mean concat?"], {"batches": "concta"}),
                               (["divisor of the 2048"], {"batches": "concat:length=100"}),
                               (["context-length", "256", "512"], {"batches": "concat:length=512"}),
                               (["optimizer", "adamw"], {"optimizer": "sgd"}),
                               (["beta2", "[0, 1)"], {"optimizer": "adamw:beta2=2"}),
                               (["learning-rate", "above 0"], {"learning_rate": -1}),
                               (["schedule", "wsd"], {"schedule": "step"}),
                               (["validation-documents"], {"validation_documents": 600}),
                               (["kv_source"], {"kv_source": [1, 1]}),
                               (["separate-norms", "kv-source"], {"separate_norms": True}),
                               (["architecture"], {"architecture": "gemma2"}),
                               (["did you mean steps?"], {"stps": 3}),
                               (["hidden_size", "multiple of 32"], {"hidden_size": 40})):
            out = self.folder("wrong")
            result = run("train", "--config", self.config(**changes), "--out", out)
            message = result.stderr.decode()
            self.assertIn(result.returncode, (1, 2), message)
            self.assertEqual(message.count("\n"), 1, message)
            for part in parts:
                self.assertIn(part, message)
            self.assertFalse(out.exists(), message)
        self.assert_refused(2, ["--out"], "train", "--config", config)
        self.assert_refused(2, ["--data"], "train", "--out", self.folder("x"))
        self.assert_refused(1, ["manifest.json"], "train", "--data", self.root, "--out",
                            self.folder("x"))

    def test_existing_folders(self):
        out = self.folder("full")
        out.mkdir(parents=True)
        (out / "note.txt").write_text("mine")
        self.assert_refused(1, ["has files in it", "--resume"], "train", "--config", self.config(),
                            "--out", out)
        # --resume goes on with runs alone.
        self.assert_refused(1, ["expected the folder of a run", "note.txt"], "train", "--config", self.config(),
                            "--out", out, "--resume")
        self.assertEqual([path.name for path in out.iterdir()], ["note.txt"])
        model = self.folder("model")
        shutil.copytree(self.reference() / "model", model)
        before = {path.name: path.read_bytes() for path in model.iterdir()}
        self.assert_refused(1, ["expected the folder of a run", "step-tokens"], "train", "--config", self.config(),
                            "--out", model, "--resume")
        self.assertEqual({path.name: path.read_bytes() for path in model.iterdir()}, before)
        self.assert_refused(1, ["steps", "60", "30"], "train", "--config", self.config(steps=30),
                            "--out", self.reference(), "--resume")

    def test_gradients_without_a_number_are_skipped(self):
        out = self.folder("nan")
        model = self.folder("broken")
        shutil.copytree(self.reference() / "model", model)
        weights = bytearray((model / "model.safetensors").read_bytes())
        weights[-4:] = struct.pack("<f", float("nan"))
        (model / "model.safetensors").write_bytes(weights)
        result = run("train", "--config", self.config(model=str(model)), "--out", out)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"step 50: loss or gradients were not finite", result.stderr)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        training = [row for row in rows if "validation_loss" not in row]
        self.assertEqual([row["step"] for row in training], list(range(1, 51)))
        self.assertTrue(all(row["skipped"] and row["loss"] is None for row in training))
        # Nothing was changed by any of them.
        values = [path.read_bytes() for path in sorted(out.glob("checkpoints/*/values.bin"))]
        self.assertEqual(values[0], values[-1])

    def test_data_of_other_forms(self):
        folder = self.folder("forms")
        folder.mkdir(parents=True)
        text = (self.root / "text.jsonl").read_bytes()
        with gzip.open(folder / "a.jsonl.gz", "wb") as file:
            file.write(text)
        tokenizer = self.root / "tokenizer"
        plain = self.object("data", "inspect", self.root / "data")
        made = self.object("data", "tokenize", "--input", folder / "a.jsonl.gz", "--tokenizer",
                           tokenizer, "--out", folder / "gz")
        self.assertEqual((made["documents"], made["tokens"]),
                         (plain["documents"], plain["tokens"]))
        if shutil.which("zstd"):
            subprocess.run(["zstd", "-q", self.root / "text.jsonl", "-o", folder / "a.jsonl.zst"],
                           check=True)
            made = self.object("data", "tokenize", "--input", folder / "a.jsonl.zst",
                               "--tokenizer", tokenizer, "--out", folder / "zst")
            self.assertEqual(made["tokens"], plain["tokens"])
        for index in (1, 0, 2):
            self.object("data", "tokenize", "--input", self.root / "text.jsonl", "--tokenizer",
                        tokenizer, "--out", folder / "parts", "--shard", f"{index}/3")
        merged = self.object("data", "merge", folder / "parts")
        self.assertEqual((merged["tokens"], merged["shards"]), (plain["tokens"], 3))
        joined = b"".join((folder / "parts" / f"shard-0000{i}-of-00003.tokens").read_bytes()
                          for i in range(3))
        self.assertEqual(joined,
                         (self.root / "data" / "shard-00000-of-00001.tokens").read_bytes())
        (folder / "cut.jsonl.gz").write_bytes((folder / "a.jsonl.gz").read_bytes()[:2000])
        self.assert_refused(1, ["cut.jsonl.gz"], "data", "tokenize", "--input",
                            folder / "cut.jsonl.gz", "--tokenizer", tokenizer, "--out",
                            folder / "cut")
        self.assertFalse((folder / "cut" / "manifest.json").exists())
        # Another tokenizer that is there stays.
        other = folder / "other"
        self.object("data", "train-tokenizer", "--input", self.root / "text.jsonl", "--vocab-size", 300, "--out", other)
        before = {path.name: path.read_bytes() for path in other.iterdir()}
        self.assert_refused(1, ["tokenizer.json", "nothing is overwritten"], "data", "tokenize", "--input",
                            self.root / "text.jsonl", "--tokenizer", tokenizer, "--out", other)
        (other / "tokenizer.json").unlink()
        self.assert_refused(1, ["tokenizer_config.json", "nothing is overwritten"], "data", "train-tokenizer",
                            "--input", self.root / "text.jsonl", "--out", other)
        del before["tokenizer.json"]
        self.assertEqual({path.name: path.read_bytes() for path in other.iterdir()}, before)

    def test_inspect(self):
        drawing = self.root / "lengths.svg"
        shown = self.object("data", "inspect", self.root / "data", "--shortest", 16, "--longest",
                            128, "--out", drawing)
        self.assertEqual(shown["documents"], 600)
        self.assertEqual(sum(bin["documents"] for bin in shown["length_histogram"]), 600)
        self.assertEqual(sum(bin["tokens"] for bin in shown["length_histogram"]), shown["tokens"])
        self.assertEqual([bucket["length"] for bucket in shown["buckets"]], [16, 32, 64, 128])
        self.assertTrue(drawing.read_text().startswith("<svg"))
        self.assert_refused(2, ["data", "did you mean inspect?"], "data", "inspct")
        self.assert_refused(2, ["shortest", "power of two"], "data", "inspect", self.root / "data",
                            "--shortest", 100)
        damaged = self.root / "damaged"
        shutil.copytree(self.root / "data", damaged, dirs_exist_ok=True)
        path = damaged / "shard-00000-of-00001.tokens"
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
        self.assert_refused(1, ["is damaged"], "data", "inspect", damaged)
        self.assert_refused(1, ["is damaged"], "train", "--config", self.config(data=str(damaged)),
                            "--out", self.folder("x"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
