#!/usr/bin/env python3
"""Checks `adze embed` against transformers' BertModel on sentences of a file. Run by hand:

    python3 embeddings.py build/adze --model FOLDER --text docs-valid.jsonl [--count 200]
    needs: torch 2.11, transformers 5.23

FOLDER is a BERT sentence encoder as Hugging Face or sentence-transformers store it (MiniLM and the
like). The reference: the tokenizer cut at the folder's max_seq_length, the hidden states of the last
layer, their mean over tokens (or the first, where 1_Pooling/config.json says so), scaled to length
one. Reimers, Gurevych, "Sentence-BERT", arXiv:1908.10084. Every tenth text is a whole document, so
that texts beyond max_seq_length occur. Fails where the cosine with the reference is 0.9999 or less,
or where the length is not one.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers

BOUND = 0.9999


def read_texts(path: pathlib.Path, count: int) -> list[str]:
    """Sentences of a JSON Lines file with a field `text`, one line each; every tenth a document."""
    texts = []
    for line in path.read_text().splitlines():
        document = json.loads(line)["text"]
        sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", document)]
        texts += [" ".join(sentence.split()) for sentence in sentences if 20 <= len(sentence) <= 400][:9]
        texts.append(" ".join(document.split()))
        if len(texts) >= count:
            return texts[:count]
    raise SystemExit(f"{path}: expected {count} texts, got {len(texts)}")


def read_optional(path: pathlib.Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def sentence_settings(folder: pathlib.Path) -> tuple[int, bool]:
    """(tokens a text is cut at, whether the mean is taken and not the first token)"""
    positions = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    length = read_optional(folder / "sentence_bert_config.json").get("max_seq_length")
    if length is None:
        length = read_optional(folder / "tokenizer_config.json").get("model_max_length", positions)
    pooling = read_optional(folder / "1_Pooling" / "config.json")
    return min(length, positions), not pooling.get("pooling_mode_cls_token", False)


def reference_embeddings(folder: pathlib.Path, texts: list[str]) -> numpy.ndarray:
    length, takes_mean = sentence_settings(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    rows, num_cut = [], 0
    for text in texts:  # one by one: no padding that could matter
        encoded = tokenizer(text, truncation=True, max_length=length, padding=False, return_tensors="pt")
        num_cut += encoded["input_ids"].shape[1] == length
        with torch.no_grad():
            hidden = model(**encoded).last_hidden_state[0]  # [seq, hidden]
        row = hidden.mean(0) if takes_mean else hidden[0]
        rows.append((row / row.norm()).numpy())
    print(f"{len(texts)} texts, {num_cut} of them cut at {length} tokens; "
          f"{'mean' if takes_mean else 'first token'} of {hidden.shape[1]} values")
    return numpy.stack(rows).astype(numpy.float64)


def adze_embeddings(program: str, folder: pathlib.Path, texts: list[str]) -> numpy.ndarray:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(text + "\n" for text in texts))
        file.flush()
        result = subprocess.run(
            [program, "embed", "--model", str(folder), "--file", file.name, "--truncate", "--json"],
            capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"adze embed: exit {result.returncode}: {result.stderr.strip()}")
    return numpy.array(json.loads(result.stdout.splitlines()[-1])["embeddings"], dtype=numpy.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="path of adze")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True, help="JSON Lines with a field text")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    texts = read_texts(options.text, options.count)
    expected = reference_embeddings(options.model, texts)
    actual = adze_embeddings(options.program, options.model, texts)
    if actual.shape != expected.shape:
        sys.exit(f"shape: expected {expected.shape}, got {actual.shape}")
    lengths = numpy.linalg.norm(actual, axis=1)
    cosines = (actual * expected).sum(1) / numpy.maximum(lengths, 1e-30)
    between = (expected @ expected.T)[numpy.triu_indices(len(expected), 1)]
    print(f"smallest cosine {cosines.min():.7f} at text {cosines.argmin()}, lengths within "
          f"{abs(lengths - 1).max():.1e} of one, largest difference {abs(actual - expected).max():.1e}; "
          f"different texts: median cosine {numpy.median(between):.3f}, largest {between.max():.4f}")
    for index in numpy.flatnonzero(cosines <= BOUND)[:10]:
        print(f"FAILED text {index}, cosine {cosines[index]:.6f}: {texts[index][:80]!r}")
    sys.exit(0 if cosines.min() > BOUND and abs(lengths - 1).max() < 1e-3 else 1)


if __name__ == "__main__":
    main()
