#!/usr/bin/env python3
"""Small tokenizers of every kind and the ids that the reference libraries give for hard texts.

Needs `tokenizers` and `sentencepiece`. Writes into this folder: NAME.json (a tokenizer.json),
NAME.model (SentencePiece), families.json (pre-tokenizers by name, all with the vocabulary of
bytes.json) and expected.json (texts, ids by tokenizer, decoded text where the reference decodes).
The vocabularies are trained on the licence and the texts below: what matters is the rules.
"""

import json
import pathlib
import random
import tempfile

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

HERE = pathlib.Path(__file__).parent
WORD_START = "\u2581"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

TEXTS = [
    "", " ", "  ", "\n", "\n\n \n", "\t", "\r\n", "a", "Hello world", "   leading and  inner  ",
    "The quick brown fox's don't I'LL we've 'Re 'tis", "1 22 333 4444 55555 1234567 3.14 1,000",
    "\u00bd \u00b2\u00b3 \u0663\u0664 \u2167 \u4e03", "caf\u00e9 cafe\u0301 e\u0301\u0323 \u1e69 \u00c5 \u212b",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab", "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u6f22\u5b57!",
    "\u4e2d\u6587\uff0cABC\u4e2d\u6587abc\u3002", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u060c\u06d4",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0964", "\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469 \u2764\ufe0f \U0001f600",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c 999", "\u0391\u0392\u0393 \u03c2\u03c3\u03a3 \u0130stanbul \u0131 I",
    "\ufb01 \u2163 \u338f \uff71\uff21\uff42\uff11", "\u00a0x\u2003y\u3000z\u200bw\u200d\ufeff\u180e\u2028\u0085",
    "\x00\x01\x02\x7f\x1b[0m\x0b\x0c", "<s> </s> <unk> <|endoftext|> <|im_start|>user\nhi<|im_end|>",
    "[CLS] [SEP]  [MASK] [UNK] x", "a<|im_end|>b  <mask>c New York NewYork <x>  y", "<0x41><0x0A>",
    f"{WORD_START} {WORD_START * 2} a{WORD_START}b", "====== ------ ______ ~~~~", "!?!?..,;",
    "def f(x):\n    return x + 1\n\n\tif y:\n\t\tpass\n", "https://a.org/p?q=1&b=2#f u@e.org",
    "a" * 70, " " * 40, "\n" * 20, "ab" * 40, "'" * 9, "1" * 20, "e\u0301" * 9, "\u6f22" * 12,
    "\ue000\U000f0000\u0378", "''s 's'S '\u017f \u212a", "x\u0301\u0302 \u0301", "$1 \u20ac5 + < = > ^ ` |",
    "\u201cq\u201d \u2018s\u2019 \u2013 \u2026 \u2122", " \t mixed \u00a0 \r\n end", "Yesterday YESTERDAY \u00e9LAN",
    "x" * 101, "a b  c   d", "foo\n\n\nbar\n \nbaz \n", "word.Word,word;word", "\u1e9e \u00df SS",
    "Za\u017c\u00f3\u0142\u0107 Nguy\u1ec5n", "<sep>x ing <sep> y",
]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = QWEN.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"\s\p{L}\p{N}", r"\s\p{L}\p{M}\p{N}")
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FRONT = r"[^\r\n\p{L}\p{N}]?"
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = f"{FRONT}{UPPER}*{LOWER}+{SUFFIX}|{FRONT}{UPPER}+{LOWER}*{SUFFIX}" + r"|\p{N}{1,3}|" + TAIL
TEKKEN = f"{FRONT}{UPPER}*{LOWER}+|{FRONT}{UPPER}+{LOWER}*" + r"|\p{N}|" + TAIL
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
IDEOGRAPHS = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK3 = ["\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
             "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
             "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]


def split(expression, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(expression), behavior, invert)


def byte_level(words):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)


def expressions(*patterns):
    return [split(pattern) for pattern in patterns] + [byte_level(False)]


# Name: normaliser, steps, ignore_merges.
FAMILIES = {
    "gpt-2": (None, [byte_level(True)], False),
    "olmo": (normalizers.NFC(), [byte_level(True)], False),
    "smollm": (None, [pre_tokenizers.Digits(True), byte_level(True)], False),
    "falcon": (None, [pre_tokenizers.Punctuation("contiguous"), byte_level(True),
                      pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")], False),
    "llama-bpe": (None, expressions(LLAMA3), True),
    "dbrx": (None, expressions(LLAMA3), False),
    "qwen2": (normalizers.NFC(), expressions(QWEN), False),
    "deepseek-r1-qwen": (None, expressions(QWEN), False),
    "qwen35": (normalizers.NFC(), expressions(QWEN35), False),
    "gpt-4o": (None, expressions(GPT4O), False),
    "tekken": (None, expressions(TEKKEN), True),
    "deepseek-coder": (None, [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                              split(IDEOGRAPHS), pre_tokenizers.Digits(True), byte_level(False)], False),
    "deepseek-v3": (None, expressions(*DEEPSEEK3), False),
    "bloom": (None, expressions(BLOOM), False),
    "viking": (None, [split(BLOOM), pre_tokenizers.Digits(True), byte_level(False)], False),
}


def corpus():
    lines = (HERE.parents[2] / "LICENSE").read_text().splitlines()
    generator = random.Random(1)
    words = " ".join(lines).split()
    return lines + TEXTS + [" ".join(generator.choices(words, k=12)) for _ in range(200)]


def save(tokenizer, name):
    (HERE / f"{name}.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")


def edit(tokenizer, change):
    tree = json.loads(tokenizer.to_str())
    change(tree)
    return Tokenizer.from_str(json.dumps(tree))


def byte_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=560, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def character_pairs(prefix):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", WORD_START)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(WORD_START, "merged_with_next")
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=600, limit_alphabet=60, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + BYTES))

    def change(tree):
        tree["added_tokens"] = tree["added_tokens"][:3]
        tree["pre_tokenizer"] = None

    tokenizer = edit(tokenizer, change)
    replace = normalizers.Replace(" ", WORD_START)
    steps = [decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(WORD_START), replace])
        tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    else:
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def unknown_pairs():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_previous")])
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=300, limit_alphabet=40, show_progress=False, special_tokens=["<unk>"]))
    return tokenizer


def unigram(byte_fallback, scheme):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator(corpus()[:-len(TEXTS)], trainers.UnigramTrainer(
        vocab_size=400, unk_token="<unk>", show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"]))

    def change(tree):
        # Fewer characters, so that some are unknown.
        tree["model"]["vocab"] = [entry for entry in tree["model"]["vocab"]
                                  if all(ord(character) < 0x400 or character == WORD_START
                                         for character in entry[0])]
        tree["model"]["byte_fallback"] = byte_fallback
        if byte_fallback:
            tree["model"]["vocab"] += [[name, -9.25] for name in BYTES]

    tokenizer = edit(tokenizer, change)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)])
    return tokenizer


def word_piece(lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=500, limit_alphabet=90, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def added_tokens():
    tokenizer = byte_pairs()
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split(r"\w+", "removed", True), pre_tokenizers.Split("the", "merged_with_next"),
         split(r"[^\S\n]", "contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.add_tokens([AddedToken("New York", single_word=True, normalized=True),
                          AddedToken("  ", normalized=False),
                          AddedToken("<x>", lstrip=True, rstrip=True, normalized=False)])
    return tokenizer


def sentencepiece_model(name, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "corpus").write_text("\n".join(line for line in corpus() if line.strip() and "\x00" not in line))
        # A small table of replacements: a ligature, full-width letters, tab to space, nothing for U+200B.
        (path / "rules.tsv").write_text("FB01\t66 69\nFF21\t41\n9\t20\n200B\t\n65 301\tE9\nC5\t41 30A\n")
        sentencepiece.SentencePieceTrainer.train(
            input=str(path / "corpus"), model_prefix=str(path / "m"), minloglevel=2, num_threads=1,
            hard_vocab_limit=False, self_test_sample_size=0,
            normalization_rule_tsv=str(path / "rules.tsv"), **options)
        (HERE / f"{name}.model").write_bytes((path / "m.model").read_bytes())
    return sentencepiece.SentencePieceProcessor(model_file=str(HERE / f"{name}.model"))


def main():
    expected = {"texts": TEXTS, "ids": {}, "decoded": {}}

    def note(name, tokenizer):
        encodings = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        expected["ids"][name] = encodings
        if tokenizer.decoder is not None:
            expected["decoded"][name] = [tokenizer.decode(ids, skip_special_tokens=False)
                                         for ids in encodings]

    tokenizers = {
        "bytes": byte_pairs(), "pairs_prefix": character_pairs(True), "pairs": character_pairs(False),
        "pairs_unknown": unknown_pairs(), "unigram": unigram(False, "always"),
        "unigram_bytes": unigram(True, "first"), "word_piece": word_piece(True),
        "word_piece_cased": word_piece(False), "added": added_tokens(),
    }
    for name, tokenizer in tokenizers.items():
        save(tokenizer, name)
        note(name, tokenizer)

    families = {}
    for name, (normalizer, steps, ignore_merges) in FAMILIES.items():
        tokenizer = edit(tokenizers["bytes"], lambda tree: tree["model"].update(ignore_merges=ignore_merges))
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tree = json.loads(tokenizer.to_str())
        families[name] = {"normalizer": tree["normalizer"], "pre_tokenizer": tree["pre_tokenizer"],
                          "ignore_merges": ignore_merges}
        expected["ids"]["family:" + name] = [tokenizer.encode(text).ids for text in TEXTS]
    (HERE / "families.json").write_text(json.dumps(families, ensure_ascii=False, indent=1) + "\n")

    models_ = {
        "scored": dict(model_type="bpe", byte_fallback=True, vocab_size=560, split_digits=True,
                       remove_extra_whitespaces=False, character_coverage=0.98,
                       user_defined_symbols=["<sep>", "\n", WORD_START * 3]),
        "scored_plain": dict(model_type="bpe", vocab_size=300, add_dummy_prefix=False,
                             character_coverage=0.98),
        "likely": dict(model_type="unigram", vocab_size=400, character_coverage=0.98,
                       user_defined_symbols=["<sep>", "ing"]),
        "likely_bytes": dict(model_type="unigram", byte_fallback=True, vocab_size=560,
                             character_coverage=0.98),
    }
    for name, options in models_.items():
        processor = sentencepiece_model(name, **options)
        # SentencePiece does not look for control tokens in the text.
        expected["ids"][name] = [None if any(token in text for token in ("<s>", "</s>", "<unk>"))
                                 else processor.encode(text) for text in TEXTS]
    (HERE / "expected.json").write_text(
        json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
