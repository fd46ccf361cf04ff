"""Token data of made-up text for tests that train."""

import json
import pathlib
import random

from adze_program import run

TINY = pathlib.Path(__file__).resolve().parent / "tiny-train.json"
WORDS = ("the a one river mountain walked over under green house slowly and then because light "
         "water stone said she he they found lost again never always north wind").split()


def write_documents(path, count, seed):
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            words = [draw.choice(WORDS) for _ in range(draw.randint(5, 120))]
            file.write(json.dumps({"text": " ".join(words)}) + "\n")


def make_data(root):
    """root/text.jsonl, root/tokenizer and root/data."""
    write_documents(root / "text.jsonl", 600, 1)
    for arguments in (["data", "train-tokenizer", "--input", root / "text.jsonl", "--vocab-size", 320,
                       "--out", root / "tokenizer"],
                      ["data", "tokenize", "--input", root / "*.jsonl", "--tokenizer", root / "tokenizer",
                       "--out", root / "data"]):
        result = run(*arguments)
        assert result.returncode == 0, result.stderr.decode()
