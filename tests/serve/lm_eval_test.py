"""lm-eval against adze serve, offline: 50 yes/no questions by log-likelihood and 50 sums by generation, made
from data/reasoning. Every score must be what adze gives for the same item without a server:

  log-likelihood   adze perplexity of the question with the answer, less that of the question alone
  generation       adze generate --raw at temperature 0

Run by hand, not by ctest: the harness and what it needs take 1 GB (tools/test-python lm-eval).
  ADZE=build/adze python3 tests/serve/lm_eval_test.py
"""

import json
import math
import os
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import test_python

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
test_python.need("lm_eval", "lm-eval")

import adze_program
from adze_server import COMPLETIONS, Server

ITEMS = 50
KEY = "key-of-the-harness-0123456789"
CHOICES = ("Yes", "No")
ANSWER_TOKENS = 24
STOP = ["\n", "Q:"]
TASKS = {
    "adze_yes_no": """
task: adze_yes_no
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: ["Yes", "No"]
doc_to_target: "{{label}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "adze_sums": """
task: adze_sums
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", "Q:"], max_gen_toks: 24, do_sample: false, temperature: 0}
filter_list:
  - name: number
    filter: [{function: regex, regex_pattern: "(-?[0-9]+)"}, {function: take_first}]
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}


def yes_no_items(folder):
    examples = json.loads((folder / "strategyqa.json").read_text())["examples"]
    return [{"prompt": f"Question: {example['input']}\nAnswer (Yes or No):",
             "label": int(example["target_scores"]["No"] == 1)} for example in examples[:ITEMS]]


def sum_items(folder):
    shown = ("Q: Ann has 3 apples and buys 4 more. How many apples does she have?\nA: 7\n"
             "Q: A box of 12 eggs is shared by 3 cooks. How many eggs does each get?\nA: 4\n")
    return [{"prompt": f"{shown}Q: {item['Body'].rstrip('. ')}. {item['Question']}\nA:",
             "answer": str(int(item["Answer"]))}
            for item in json.loads((folder / "svamp.json").read_text())[:ITEMS]]


class LmEval(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        data = pathlib.Path(os.environ.get("ADZE_SHARED", test_python.ROOT.parent / "shared")) / "data/reasoning"
        if not data.is_dir():
            print(f"skipped: no {data}")
            sys.exit(77)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="adze-lm-eval-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.environ["HF_HOME"] = str(cls.folder / "hf")
        cls.model = adze_program.default_model()
        # The harness cuts contexts with the model's own tokenizer and sends token ids.
        converted = adze_program.run("convert", "--model", cls.model, "--to", "hf", "--out", cls.folder / "tokenizer")
        assert converted.returncode == 0, converted.stderr
        cls.items = {"adze_yes_no": yes_no_items(data), "adze_sums": sum_items(data)}
        for name, items in cls.items.items():
            rows = cls.folder / f"{name}.jsonl"
            rows.write_text("".join(json.dumps(item) + "\n" for item in items))
            (cls.folder / f"{name}.yaml").write_text(TASKS[name].replace("FILE", str(rows)))
        cls.results = cls.evaluate()

    @classmethod
    def evaluate(cls):
        import lm_eval
        from lm_eval.tasks import TaskManager

        os.environ["OPENAI_API_KEY"] = KEY
        with Server("--compute", "int8", keys=[KEY], model=f"served={cls.model}") as server:
            return lm_eval.simple_evaluate(
                model="local-completions", model_args={
                    "model": "served", "base_url": server.url + COMPLETIONS, "tokenizer": str(cls.folder / "tokenizer"),
                    "tokenizer_backend": "huggingface", "tokenized_requests": True, "num_concurrent": 8,
                    "max_length": 4096, "max_retries": 1},
                tasks=list(TASKS), task_manager=TaskManager(include_path=str(cls.folder), include_defaults=False),
                log_samples=True, bootstrap_iters=0)

    def samples(self, task):
        found = sorted(self.results["samples"][task], key=lambda sample: sample["doc_id"])
        self.assertEqual(len(found), ITEMS)
        return found

    def object(self, *arguments):
        result = adze_program.run(*arguments, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout.decode().splitlines()[-1])

    def log_likelihood(self, text):
        """Of all tokens but the first, from a perplexity over one window that holds the whole text."""
        path = self.folder / "text"
        path.write_text(text)
        found = self.object("perplexity", "--model", self.model, "--file", path, "--context", 4096)
        return -found["tokens"] * math.log(found["perplexity"])

    def test_log_likelihoods(self):
        right = largest = 0
        for item, sample in zip(self.items["adze_yes_no"], self.samples("adze_yes_no")):
            alone = self.log_likelihood(item["prompt"])
            direct = [self.log_likelihood(f"{item['prompt']} {choice}") - alone for choice in CHOICES]
            served = [float(response[0]) for response in sample["filtered_resps"]]
            for ours, theirs in zip(direct, served, strict=True):
                largest = max(largest, abs(ours - theirs))
            right += direct.index(max(direct)) == item["label"]
        print(f"log-likelihoods: {2 * ITEMS} differ by {largest:.1e} at most; accuracy {right / ITEMS}", file=sys.stderr)
        # Differences of two sums over some 30 tokens, in double, of log-probabilities in f32.
        self.assertLess(largest, 1e-3)
        self.assertAlmostEqual(self.results["results"]["adze_yes_no"]["acc,none"], right / ITEMS)

    def test_generations(self):
        right = 0
        for item, sample in zip(self.items["adze_sums"], self.samples("adze_sums")):
            text = self.object("generate", "--model", self.model, "--raw", "--prompt", item["prompt"], "--temperature",
                               0, "--max-tokens", ANSWER_TOKENS, *(part for stop in STOP for part in ("--stop", stop))
                               )["text"]
            self.assertEqual(sample["resps"][0][0], text)
            digits = "".join(character if character.isdigit() or character == "-" else " " for character in text).split()
            right += bool(digits) and digits[0] == item["answer"]
        print(f"generations: {ITEMS} equal; exact match {right / ITEMS}", file=sys.stderr)
        self.assertAlmostEqual(self.results["results"]["adze_sums"]["exact_match,number"], right / ITEMS)


if __name__ == "__main__":
    unittest.main()
