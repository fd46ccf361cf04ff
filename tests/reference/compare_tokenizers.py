#!/usr/bin/env python3
"""Compares the token ids of `adze tokenize` with those of the reference libraries. Run by hand.

  compare_tokenizers.py [--adze PROGRAM] [--texts FILE.jsonl]... FOLDER...
  compare_tokenizers.py [--adze PROGRAM] --characters

FOLDER has a tokenizer.json (compared with `tokenizers`) or a tokenizer.model (compared with
`sentencepiece`, which does not look for control tokens in the text: texts with such are left out).
Texts are the hard ones below, random ones, and the "text" of each line of FILE. --characters asks
both sides about every character of Unicode: normal forms, lower case, accents, punctuation. What
differs there are characters newer than one side's tables (src/text/reference_unicode.cpp).

Needs `tokenizers`, and `sentencepiece` for models of its own. Exit code 1 where ids differ.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/tokenizers/expected.json"


def hard_texts():
    texts = json.loads(GOLDEN.read_text())["texts"]
    generator = random.Random(7)
    letters = "ab AB\n\t 12.,!'\u2019\u00e9\u00df\u0301\u0308\u6f22\ud55c\u0928\u093f\U0001f44d\u200d\U0001f3fd\u2581<>[]sLlve"
    words = "the of and hello <s> </s> [MASK] <|im_end|> New York 2024 don't I'm".split()
    for _ in range(300):
        texts.append("".join(generator.choices(letters, k=generator.randrange(1, 60))))
        texts.append("".join(generator.choice(words) + generator.choice(["", " ", "  ", "\n"])
                             for _ in range(generator.randrange(1, 15))))
    for _ in range(100):
        ranges = [(0x20, 0x250), (0x250, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x14000)]
        texts.append("".join(chr(generator.randrange(*generator.choice(ranges)))
                             for _ in range(generator.randrange(1, 30))))
    return texts


def with_configuration(folder, place):
    """A copy of the tokenizer's files in `place`: adze wants a configuration of a model beside them."""
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            shutil.copy(folder / name, place)
    (place / "config.json").write_text("{}")
    return place


def our_ids(adze, folder, text):
    run = subprocess.run([adze, "tokenize", "--model", str(folder), "--json"], input=text.encode(),
                         capture_output=True, check=False)
    if run.returncode != 0:
        return run.stderr.decode().strip()
    return json.loads(run.stdout.splitlines()[-1])["ids"]


def reference(folder):
    """A function from text to ids; None for a text that cannot be compared."""
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    import sentencepiece
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    control = [model.id_to_piece(index) for index in range(model.get_piece_size())
               if model.is_control(index) or model.is_unknown(index)]
    return lambda text: None if any(token in text for token in control) else model.encode(text)


def compare_folder(adze, folder, texts):
    ids_of = reference(folder)
    compared = differing = 0
    with tempfile.TemporaryDirectory() as place:
        copy = with_configuration(folder, pathlib.Path(place))
        for text in texts:
            expected = ids_of(text)
            if expected is None:
                continue
            compared += 1
            found = our_ids(adze, copy, text)
            if found != expected:
                differing += 1
                if differing <= 3:
                    print(f"  {text[:60]!r}: expected {expected[:12]}, got {found[:90]}")
    print(f"{folder}: {differing} of {compared} texts differ", flush=True)
    return differing


def ranges_of(numbers):
    ranges = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return " ".join(f"{first:X}" if first == last else f"{first:X}-{last:X}" for first, last in ranges)


def compare_characters(adze):
    characters = [chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code <= 0xDFFF]
    removed = pre_tokenizers.Punctuation("removed")
    rules = {
        "NFC": (normalizers.NFC(), None), "NFD": (normalizers.NFD(), None),
        "NFKC": (normalizers.NFKC(), None), "NFKD": (normalizers.NFKD(), None),
        "Lowercase": (normalizers.Lowercase(), None),
        "StripAccents": (normalizers.StripAccents(), None),
        "BertNormalizer": (normalizers.BertNormalizer(), None),
        "BertNormalizer, cased": (normalizers.BertNormalizer(lowercase=False), None),
        "Punctuation": (None, removed), "WhitespaceSplit": (None, pre_tokenizers.WhitespaceSplit()),
    }
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    for name, (normalizer, step) in rules.items():
        tokenizer = Tokenizer(models.BPE(vocab={sign: index for index, sign in enumerate(alphabet)}, merges=[]))
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = last if step is None else pre_tokenizers.Sequence([step, last])
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(folder + "/tokenizer.json")
            pathlib.Path(folder, "config.json").write_text("{}")
            differing = []
            pending = [characters]
            while pending:  # halves, where a part differs
                part = pending.pop()
                text = "".join("a" + character + "b" for character in part)
                if our_ids(adze, folder, text) == tokenizer.encode(text).ids:
                    continue
                if len(part) == 1:
                    differing.append(ord(part[0]))
                elif len(differing) < 400:
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
        print(f"{name}: {len(differing)} characters differ: {ranges_of(sorted(differing))}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adze", default="build/release/adze")
    parser.add_argument("--texts", action="append", default=[])
    parser.add_argument("--characters", action="store_true")
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    if options.characters:
        compare_characters(options.adze)
    texts = hard_texts()
    for path in options.texts:
        texts += [json.loads(line)["text"] for line in pathlib.Path(path).read_text().splitlines()]
    return int(sum(compare_folder(options.adze, folder, texts) for folder in options.folders) > 0)


if __name__ == "__main__":
    sys.exit(main())
