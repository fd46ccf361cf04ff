"""What a training run leaves behind: TensorBoard's event file, read by a parser of its own; the catalogue of
runs and its pictures; adapters, activations that are computed again. Makes its own text."""

import json
import os
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest
import xml.etree.ElementTree

from adze_program import Case, run
from train_data import TINY, make_data


def crc32c(data):
    """Bit by bit, not by table: independent of the program's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(content):
    place = 0
    while place < len(content):
        head = content[place:place + 8]
        size, = struct.unpack("<Q", head)
        check, = struct.unpack("<I", content[place + 8:place + 12])
        assert check == masked(crc32c(head)), "checksum of a length"
        data = content[place + 12:place + 12 + size]
        check, = struct.unpack("<I", content[place + 12 + size:place + 16 + size])
        assert check == masked(crc32c(data)), "checksum of a record"
        yield data
        place += 16 + size


def fields(message):
    """(number, value) of a protocol buffer's message."""
    place = 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            size = varint() if size is None else size
            value = message[place:place + size]
            place += size
        yield key >> 3, value


def scalars(path):
    """{tag: {step: value}} of an event file."""
    events = list(records(path.read_bytes()))
    assert dict(fields(events[0]))[3] == b"brain.Event:2"
    result = {}
    for event in events[1:]:
        parts = dict(fields(event))
        for number, value in fields(parts[5]):
            assert number == 1
            value = dict(fields(value))
            result.setdefault(value[1].decode(), {})[parts.get(2, 0)] = struct.unpack("<f", value[2])[0]
    return result


class Runs(Case):
    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="adze-runs-"))
        os.environ["ADZE_RUNS"] = str(cls.root / "runs.sqlite")
        make_data(cls.root)
        cls.trained = cls.root / "trained"
        result = run("train", "--config", cls.config(), "--out", cls.trained)
        assert result.returncode == 0, result.stderr.decode()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root, ignore_errors=True)

    @classmethod
    def config(cls, **changes):
        values = json.loads(TINY.read_text().replace("@DATA@", str(cls.root / "data")))
        values["steps"] = 20
        values.update({name.replace("_", "-"): value for name, value in changes.items()})
        path = cls.root / f"config-{abs(hash(json.dumps(values, sort_keys=True)))}.json"
        path.write_text(json.dumps(values))
        return path

    def rows(self, folder):
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    def check_events(self, folder):
        events = scalars(folder / "events.out.tfevents.0")
        for name in ("loss", "validation_loss", "learning_rate", "gradient_norm"):
            expected = {row["step"]: row[name] for row in self.rows(folder) if name in row}
            self.assertEqual(list(events[name]), list(expected))
            for step, value in expected.items():
                self.assertAlmostEqual(events[name][step], value, delta=1e-6 * abs(value))

    def times(self, folder):
        """{(step, tags): seconds since 1970} of an event file."""
        events = [dict(fields(event)) for event in list(records((folder / "events.out.tfevents.0").read_bytes()))[1:]]
        return {(event.get(2, 0), b"validation_loss" in event[5]): struct.unpack("<d", event[1])[0] for event in events}

    def test_events_are_the_metrics(self):
        self.check_events(self.trained)

    def test_a_resumed_run_has_each_event_once(self):
        out = self.root / "resumed"
        self.object("train", "--config", self.config(), "--out", out)
        (out / "summary.json").unlink()
        newest = max((out / "checkpoints").iterdir())
        shutil.rmtree(newest)
        before = self.times(out)
        self.object("train", "--config", self.config(), "--out", out, "--resume")
        self.check_events(out)
        after = self.times(out)
        self.assertEqual(list(after), list(before))
        kept = [place for place in before if after[place] == before[place]]
        self.assertEqual(kept, [place for place in before if place[0] <= 15])  # up to the checkpoint

    def test_the_catalogue(self):
        stopped = self.root / "second"
        self.object("train", "--config", self.config(seed=2), "--out", stopped)
        listed = self.object("runs", "list")
        self.assertEqual(listed["catalogue"], os.environ["ADZE_RUNS"])
        by_folder = {entry["folder"]: entry for entry in listed["runs"]}
        entry = by_folder[str(self.trained)]
        self.assertEqual(entry["state"], "finished")
        self.assertEqual(entry["step"], 20)
        shown = self.object("runs", "show", self.trained)
        self.assertEqual(shown["config"]["steps"], 20)
        self.assertEqual(shown["summary"], json.loads((self.trained / "summary.json").read_text()))
        self.assertEqual(self.object("runs", "show", entry["number"]), shown)
        self.assertIn(str(stopped), run("runs", "list").stdout.decode())
        picture = self.root / "curves.svg"
        drawn = self.object("runs", "plot", self.trained, stopped, "--out", picture, "--smoothing", 0.5)
        self.assertEqual([one["points"] for one in drawn["runs"]], [20, 20])
        root = xml.etree.ElementTree.parse(picture).getroot()
        self.assertIn(str(stopped), "".join(root.itertext()))
        self.assert_refused(1, ["nowhere"], "runs", "show", "nowhere")
        self.assert_refused(2, ["axis", "weeks"], "runs", "plot", self.trained, "--out", picture, "--axis", "weeks")
        self.assert_refused(2, ["list, show, plot"], "runs", "lst")

    def test_a_run_whose_catalogue_cannot_be_written_goes_on(self):
        out = self.root / "alone"
        result = run("train", "--config", self.config(steps=2), "--out", out,
                     env=dict(os.environ, ADZE_RUNS=str(self.root)))
        self.assert_succeeds(result)
        self.assertIn("catalogue", result.stderr.decode())

    def test_recomputed_activations_are_the_same_run_in_less_memory(self):
        shape = dict(hidden_size=128, heads=4, intermediate_size=512, layers=12, step_tokens=4096,
                     micro_batch_tokens=4096, steps=3, context_length=256, batches="concat:length=256")
        peaks, losses = [], []
        for flag in (False, True):
            out = self.root / f"recomputed-{flag}"
            peaks.append(self.object("train", "--config", self.config(checkpoint_activations=flag, **shape),
                                     "--out", out)["peak_memory_bytes"])
            losses.append([row["loss"] for row in self.rows(out) if "loss" in row])
        self.assertEqual(losses[0], losses[1])
        self.assertEqual((self.root / "recomputed-False/model/model.safetensors").read_bytes(),
                         (self.root / "recomputed-True/model/model.safetensors").read_bytes())
        self.assertLess(peaks[1], 0.75 * peaks[0])

    def test_an_adapter(self):
        """Over a model whose weights stay packed in Q8_0."""
        base = self.root / "base.gguf"
        if not base.exists():
            self.object("convert", "--model", self.trained / "model", "--to", "gguf", "--type", "q8_0", "--out", base)
        before = base.read_bytes()
        out = self.root / "adapted"
        flags = ["--model", base, "--lora-rank", 4, "--lora-alpha", 8, "--lora-targets", "all-linear", "--seed", 5]
        summary = self.object("train", "--config", self.config(learning_rate=0.02, steps=60), "--out", out, *flags)
        losses = [row["loss"] for row in self.rows(out) if "loss" in row]
        self.assertLess(sum(losses[-5:]) / 5, sum(losses[:5]) / 5 - 0.1)
        self.assertEqual(base.read_bytes(), before)
        self.assertEqual(summary["parameters"], 2 * 4 * (64 + 64 + 2 * (64 + 32) + 64 + 64 + 3 * (64 + 160)))
        config = json.loads((out / "adapter/adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"], config["target_modules"]), (4, 8, "all-linear"))
        text = self.root / "held.txt"
        text.write_text(json.loads((self.root / "text.jsonl").read_text().splitlines()[-1])["text"])
        score = ["perplexity", "--model", base, "--file", text, "--context", 128, "--compute", "f32"]
        plain = self.object(*score)["perplexity"]
        adapted = self.object(*score, "--lora", out / "adapter")["perplexity"]
        self.assertLess(adapted, 0.97 * plain)
        self.assertTrue(self.object("generate", "--model", base, "--lora", out / "adapter", "--raw", "--prompt",
                                    "the river", "--max-tokens", 8)["text"])
        self.assert_refused(1, ["lora-targets", "w_pack"], "train", "--config", self.config(), "--out",
                            self.root / "wrong", "--model", base, "--lora-rank", 4, "--lora-targets", "w_pack")
        self.assert_refused(2, ["lora-rank"], "train", "--config", self.config(), "--out", self.root / "wrong",
                            "--lora-rank", 4)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
