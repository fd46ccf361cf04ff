"""Writes tokenizer_golden.json: what the `tokenizers` library makes of hard texts.

"pieces": how each pre-tokenizer cuts them; no model is needed.
"ids": their tokens under the vocabulary of SmolLM2-135M-Instruct, from a GGUF file.

    python3 make_golden.py SmolLM2-135M-Instruct.gguf        needs: tokenizers, gguf; seed 7
"""

import json
import pathlib
import random
import sys

from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

FOLDER = pathlib.Path(__file__).parent
CONTROL = 3  # token type in GGUF

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def splits(*expressions):
    return [pre_tokenizers.Split(Regex(expression), "isolated") for expression in expressions]


def byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


PRE_TOKENIZERS = {
    "gpt-2": [byte_level()],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), byte_level()],
    "llama-bpe": splits(LLAMA3),
    "qwen2": splits(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
    "gpt-4o": splits(GPT4O),
    "tekken": splits(TEKKEN),
    "deepseek-v3": splits(r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK3),
    "deepseek-coder": splits(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")
    + [pre_tokenizers.Digits(individual_digits=True)],
}

TEXTS = [
    "",
    " ",
    "   ",
    "Hello, world! It's 12345.67 o'clock; WE'LL they'd I'M you're 'twas.",
    "a  1   b\t\t2 \n\n  c\r\n d\r",
    "x = {'a': 1, \"b\": [2, 3]}  # comment\n    return x\n\n\n",
    "na\u00efve caf\u00e9 re\u0301sume\u0301 stra\u00dfe \u0130stanbul \u017fK \u01c5",
    "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002\u3000\u5168\u89d2 \ud55c\uad6d\uc5b4 \u4e2d\u6587\uff0c12\uff13\u2167\u00bd\u00b2",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 \u0645\u0631\u062d\u0628\u0627 \u0661\u0662\u0663 \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f \U0001f600\U0001f600",
    "\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u180e\u200b\u0085\u001c\u001f\u000b\u000c|",
    "\x00\x01\x04\x06\x13\x14\x16\x1d\x7f\u0080\ufffd\U000f0000\U0010ffff",
    "https://example.org/a_b-c?d=e&f=%20#g  user@example.org  C:\\dir\\file.txt",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|> <|im_end|x><|endoftext|><repo_name>a",
    "   leading and trailing   ",
    "\n \n  \n   \n",
    "1234567890 1,000,000.00 3.14e-10 0xFF \u0967\u0968\u0969",
]


def random_texts():
    random.seed(7)
    alphabet = " \t\n\r\u00a0\u2028\u3000\u180e\u0085\u200b'sSreveLLltmd019\u00bd\u00b2\u4e00\uac00\u00e9\u0301\u00c9!?.,<>|/_\U0001f642\u200d\x00\x04\u017fK\u0939\u094d"
    return ["".join(random.choice(alphabet) for _ in range(24)) for _ in range(60)]


def pieces(stages, text):
    tokenizer = pre_tokenizers.Sequence(stages)
    return [text[begin:end] for _, (begin, end) in tokenizer.pre_tokenize_str(text)]


def read_tokenizer(path):
    fields = GGUFReader(path).fields

    def strings(name):
        field = fields[name]
        return [bytes(field.parts[index]).decode() for index in field.data]

    tokens = strings("tokenizer.ggml.tokens")
    merges = [tuple(line.split(" ")) for line in strings("tokenizer.ggml.merges")]
    types = fields["tokenizer.ggml.token_type"]
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS["smollm"])
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, index in zip(tokens, types.data) if int(types.parts[index][0]) == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def main():
    texts = TEXTS + random_texts()
    tokenizer = read_tokenizer(sys.argv[1])
    golden = {
        "texts": texts,
        "ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in texts],
        **{name: [pieces(stages, text) for text in texts] for name, stages in PRE_TOKENIZERS.items()},
    }
    rows = lambda value: "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in value) + "\n]"
    text = ",\n".join(f"{json.dumps(name)}: {rows(value)}" for name, value in golden.items())
    (FOLDER / "tokenizer_golden.json").write_text("{" + text + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
