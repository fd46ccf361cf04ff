#!/usr/bin/env python3
"""Writes N/{adapter_config.json, adapter_model.safetensors, logits.bin} for eight LoRA adapters of the
small llama (../models/llama), in PEFT's format, and tokens.json.

    W' = W + scale * B A,  scale = lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora

    logits.bin   f32 little endian [rows, vocab]: tests/reference/forward.py (float64) with W' in place of W
                 for the rows of tokens.json

The factors are drawn with seed N. Before a case is written, this script checks that the adapter moves some
logit by more than 0.1.

    python3 make_adapters.py      needs: numpy, safetensors
"""

import json
import math
import pathlib
import sys

import numpy
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1] / "reference"))

from forward import forward  # noqa: E402
from hashed_weights import golden_weights  # noqa: E402

MODEL = FOLDER.parent / "models/llama"
ROWS = [0, 1, 31, 32, 47]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

# rank, lora_alpha, modules, more of adapter_config.json
ADAPTERS = [
    (1, 2, ["q_proj", "v_proj"], {}),
    (2, 4, ATTENTION, {}),
    (4, 8, MLP, {}),
    (4, 4, ["o_proj"], {"use_rslora": True}),
    (3, 6, ["down_proj", "k_proj"], {"layers_to_transform": [1]}),
    (2, 4, ["q_proj", "gate_proj"], {"rank_pattern": {"gate_proj": 5}, "alpha_pattern": {"q_proj": 1}}),
    (2, 3, ATTENTION + MLP, {}),
    (8, 8, ["up_proj"], {}),
]


def kind(module):
    return "self_attn" if module in ATTENTION else "mlp"


def main():
    golden = json.loads((MODEL / "golden.json").read_text())
    config = json.loads((MODEL / "config.json").read_text())
    tokens = golden["tokens"][:48]
    base = golden_weights(golden)
    plain = forward(config, base, tokens)[ROWS]
    (FOLDER / "tokens.json").write_text(json.dumps({"tokens": tokens, "rows": ROWS}) + "\n")
    for number, (rank, alpha, modules, more) in enumerate(ADAPTERS, 1):
        random = numpy.random.default_rng(number)
        folder = FOLDER / str(number)
        folder.mkdir(exist_ok=True)
        factors, merged = {}, dict(base)
        for layer in more.get("layers_to_transform", range(config["num_hidden_layers"])):
            for module in modules:
                name = f"model.layers.{layer}.{kind(module)}.{module}"
                outputs, inputs = base[f"{name}.weight"].shape
                r = more.get("rank_pattern", {}).get(module, rank)
                a = more.get("alpha_pattern", {}).get(module, alpha)
                scale = a / (math.sqrt(r) if more.get("use_rslora") else r)
                down = (random.standard_normal((r, inputs)) / math.sqrt(inputs)).astype(numpy.float32)
                up = (random.standard_normal((outputs, r)) * 0.3).astype(numpy.float32)
                factors[f"base_model.model.{name}.lora_A.weight"] = down
                factors[f"base_model.model.{name}.lora_B.weight"] = up
                merged[f"{name}.weight"] = base[f"{name}.weight"].astype(float) + scale * (
                    up.astype(float) @ down.astype(float))
        logits = forward(config, merged, tokens)[ROWS]
        assert numpy.abs(logits - plain).max() > 0.1, number
        save_file(factors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps(
            {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.05,
             "bias": "none", "target_modules": modules, "inference_mode": True, **more}, indent=1) + "\n")
        logits.astype("<f4").tofile(folder / "logits.bin")


if __name__ == "__main__":
    main()
