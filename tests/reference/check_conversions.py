#!/usr/bin/env python3
"""Checks `adze convert` from a Hugging Face folder to GGUF and back, for every case of
tests/golden/models, against `transformers`, `tokenizers` and the `gguf` package. Run by hand:

    python3 check_conversions.py build/adze [--cases NAME...] [--types f32 f16 bf16]
            [--text FILE] [--keep FOLDER]
    needs: torch 2.11, transformers 5.23, tokenizers, safetensors, gguf 0.19

Per case and type (and for f32 once more from the published spelling of the configuration):
  GGUF    tensor names are exactly those that llama.cpp reads for the architecture; values, types and
          the metadata it needs are right
  back    all tensors have the bits, types and shapes of the original; transformers loads the folder
          without a missing or unexpected tensor and computes the same logits, bit for bit; its
          tokenizer gives the same ids, texts and chat prompts
Exit code 1 where anything differs. A trained tokenizer of 160 entries stands beside each model.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from gguf_expectation import architecture_name, expected_metadata, expected_tensors
from hashed_weights import golden_weights
from tiny_tokenizers import tiny_tokenizer

MODELS = pathlib.Path(__file__).resolve().parents[1] / "golden" / "models"
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
GGUF_TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
KEPT_F32 = {"position_embd.weight", "token_types.weight"}  # llama.cpp may keep these two exact
# llama.cpp computes embeddings without BERT's pooler: a conversion may leave it out.
OPTIONAL = ("pooler.",)
# Where it is kept, it has the place that llama.cpp gives to a BERT's classifier, which it may lack.
POOLER = {"cls.weight", "cls.bias"}
PROBES = [
    "", " ", "\n\n", "Hello, world!", "  two  spaces ", "I'll say it's 1234567 dollars\r\n\tok",
    "naïve café 你好 😀", "<|begin|>a<|user|> b<|end|>", "CamelCase_and_snake-case = f(x[0]) != {};",
    "[CLS] masked [MASK] word [SEP]",
]


class Failures:
    def __init__(self, what: str):
        self.what = what
        self.messages: list[str] = []

    def expect(self, condition, message: str) -> None:
        if not condition:
            self.messages.append(message)


def run_adze(program: str, *arguments) -> None:
    command = [program, *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {result.returncode}: {result.stderr.strip()}")
    json.loads(result.stdout.splitlines()[-1])


# ---- the original --------------------------------------------------------------------------------


def write_original(case: pathlib.Path, config_name: str, kind: str, tokenizer, folder: pathlib.Path):
    folder.mkdir(parents=True)
    config = json.loads((case / config_name).read_text())
    config["dtype" if "dtype" in config else "torch_dtype"] = NAMES[kind]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = golden_weights(json.loads((case / "golden.json").read_text()))
    tensors = {name: torch.from_numpy(value).to(TYPES[kind]) for name, value in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return config, tensors


def read_tensors(folder: pathlib.Path) -> dict:
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


# ---- checks --------------------------------------------------------------------------------------


def check_gguf(path: pathlib.Path, config: dict, tensors: dict, kind: str, failures: Failures):
    reader = gguf.GGUFReader(path)

    def value(key):
        return reader.fields[key].contents() if key in reader.fields else None

    architecture = architecture_name(config)
    found = value("general.architecture")
    failures.expect(found == architecture, f"general.architecture: expected {architecture}, got {found}")
    for key, expected in expected_metadata(config).items():
        actual = value(key)
        is_equal = actual == expected or (
            isinstance(expected, float) and actual is not None and numpy.isclose(actual, expected, 1e-6))
        failures.expect(is_equal, f"{key}: expected {expected}, got {actual}")
    tokens = value("tokenizer.ggml.tokens")
    failures.expect(tokens is not None and len(tokens) == config["vocab_size"], "tokenizer.ggml.tokens")

    floats = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    expected, _ = expected_tensors(config, floats)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    failures.expect(set(stored) >= set(expected), f"GGUF lacks {sorted(set(expected) - set(stored))}")
    surplus = set(stored) - set(expected) - (POOLER if config["model_type"] == "bert" else set())
    failures.expect(not surplus, f"GGUF adds {sorted(surplus)}")
    for name in set(stored) & set(expected):
        tensor = stored[name]
        actual = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        type_name = tensor.tensor_type.name
        is_matrix = expected[name].ndim > 1
        legal = {GGUF_TYPES[kind]} if is_matrix else {"F32"}
        failures.expect(type_name in legal | ({"F32"} if name in KEPT_F32 else set()),
                        f"{name}: type {type_name}")
        if actual.shape != expected[name].shape:
            failures.expect(False, f"{name}: shape {actual.shape}, expected {expected[name].shape}")
        elif name.startswith("rope_"):
            failures.expect(numpy.allclose(actual, expected[name], 1e-5), f"{name}: values differ")
        else:
            failures.expect(numpy.array_equal(actual, expected[name]), f"{name}: values differ")


def check_tensors(original: dict, returned: dict, failures: Failures) -> None:
    for name in sorted(set(original) - set(returned)):
        failures.expect(name.startswith(OPTIONAL), f"{name}: lost")
    for name in sorted(set(returned) - set(original)):
        failures.expect(False, f"{name}: added")
    for name in sorted(set(original) & set(returned)):
        left, right = original[name], returned[name]
        if left.dtype != right.dtype or left.shape != right.shape:
            failures.expect(False, f"{name}: {left.dtype} {list(left.shape)} became "
                                   f"{right.dtype} {list(right.shape)}")
        else:
            bits = torch.int32 if left.dtype == torch.float32 else torch.int16
            failures.expect(torch.equal(left.view(bits), right.view(bits)), f"{name}: bits differ")


def compute(folder: pathlib.Path, sequences: list[dict]):
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    loader = transformers.AutoModel if kind == "bert" else transformers.AutoModelForCausalLM
    model, info = loader.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    outputs = []
    for sequence in sequences:
        arguments = {"input_ids": torch.tensor([sequence["tokens"]])}
        if "token_types" in sequence:
            arguments["token_type_ids"] = torch.tensor([sequence["token_types"]])
        with torch.no_grad():
            result = model.eval()(**arguments)
        outputs.append(result.last_hidden_state if kind == "bert" else result.logits)
    return outputs, info


def check_model(original: pathlib.Path, returned: pathlib.Path, sequences, failures: Failures) -> None:
    expected, _ = compute(original, sequences)
    actual, info = compute(returned, sequences)
    missing = [name for name in info["missing_keys"] if not name.startswith(OPTIONAL)]
    failures.expect(not missing, f"transformers misses {missing}")
    failures.expect(not info["unexpected_keys"], f"transformers does not know {info['unexpected_keys']}")
    for left, right in zip(expected, actual):
        difference = (left - right).abs().max().item()
        failures.expect(torch.equal(left, right), f"transformers' outputs differ by {difference:.2g}")


def check_tokenizer_file(original: pathlib.Path, returned: pathlib.Path, texts, failures: Failures):
    """The file by itself: AutoTokenizer replaces parts of it by what its class prescribes."""
    left, right = (Tokenizer.from_file(str(path)) for path in (original, returned))
    for text in texts:
        expected, actual = left.encode(text).ids, right.encode(text).ids
        if expected != actual:
            failures.expect(False, f"tokenizer.json, ids of {text[:40]!r}: "
                                   f"expected {expected[:12]}, got {actual[:12]}")
            return


def check_tokenizer(original: pathlib.Path, returned: pathlib.Path, texts, failures: Failures) -> None:
    failures.expect((returned / "tokenizer.json").exists(), "tokenizer.json: lost")
    check_tokenizer_file(original / "tokenizer.json", returned / "tokenizer.json", texts, failures)
    left = transformers.AutoTokenizer.from_pretrained(original)
    right = transformers.AutoTokenizer.from_pretrained(returned)
    for text in texts:
        for special in (True, False):
            expected = left(text, add_special_tokens=special)["input_ids"]
            actual = right(text, add_special_tokens=special)["input_ids"]
            if expected != actual:
                failures.expect(False, f"ids of {text[:40]!r}: expected {expected[:12]}, got {actual[:12]}")
                return
        failures.expect(left.decode(expected) == right.decode(expected), f"decoded {text[:40]!r} differs")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id"):
        expected, actual = getattr(left, name, None), getattr(right, name, None)
        failures.expect(expected == actual, f"{name}: expected {expected}, got {actual}")
    if left.chat_template:
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        prompts = [one.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
                   if one.chat_template else None for one in (left, right)]
        failures.expect(prompts[0] == prompts[1], f"chat prompt: {prompts}")


def check_case(program, case, config_name, kind, texts, folder: pathlib.Path) -> Failures:
    spelling = ", published" if "published" in config_name else ""
    failures = Failures(f"{case.name} {kind}{spelling}")
    original, returned = folder / "original", folder / "returned"
    golden = json.loads((case / "golden.json").read_text())
    kind_of_model = json.loads((case / config_name).read_text())["model_type"]
    tokenizer = tiny_tokenizer(kind_of_model, texts)
    config, tensors = write_original(case, config_name, kind, tokenizer, original)
    try:
        run_adze(program, "convert", "--model", original, "--to", "gguf", "--out", folder / "model.gguf",
                 "--type", kind)
        check_gguf(folder / "model.gguf", config, tensors, kind, failures)
        run_adze(program, "convert", "--model", folder / "model.gguf", "--to", "hf", "--out", returned)
        check_tensors(tensors, read_tensors(returned), failures)
        check_model(original, returned, golden.get("sequences", [golden]), failures)
        check_tokenizer(original, returned, [*PROBES, *texts[:20]], failures)
    except Exception as error:  # one broken case must not hide the others
        failures.expect(False, f"{type(error).__name__}: {error}")
    return failures


def read_texts(path: pathlib.Path | None) -> list[str]:
    """Lines of prose: of a JSON Lines file with a field `text`, or of our own documents."""
    if path is not None and path.suffix == ".jsonl":
        return [json.loads(line)["text"][:500] for line in path.read_text().splitlines()[:100]]
    path = path or MODELS.parents[2] / "README.md"
    return [line for line in path.read_text().splitlines() if line.strip()][:400]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="path of adze")
    parser.add_argument("--cases", nargs="*", help="default: all")
    parser.add_argument("--types", nargs="*", default=list(TYPES), choices=list(TYPES))
    parser.add_argument("--text", type=pathlib.Path, help="texts to train and probe tokenizers with")
    parser.add_argument("--keep", type=pathlib.Path, help="keep the files in this new folder")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    texts = read_texts(options.text)
    cases = [path.parent for path in sorted(MODELS.glob("*/golden.json"))]
    cases = [case for case in cases if not options.cases or case.name in options.cases]
    num_failed = num_checked = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or pathlib.Path(temporary)
        for case in cases:
            runs = [("config.json", kind) for kind in options.types]
            if "f32" in options.types:
                runs.append(("config_published.json", "f32"))
            for config_name, kind in runs:
                folder = root / case.name / f"{kind}-{pathlib.Path(config_name).stem}"
                failures = check_case(options.program, case, config_name, kind, texts, folder)
                num_checked += 1
                num_failed += bool(failures.messages)
                print(f"{'FAILED' if failures.messages else 'ok    '} {failures.what}", flush=True)
                for message in failures.messages[:8]:
                    print(f"       {message}", flush=True)
    print(f"{num_checked} conversions, {num_failed} failed")
    sys.exit(1 if num_failed or not num_checked else 0)


if __name__ == "__main__":
    main()
