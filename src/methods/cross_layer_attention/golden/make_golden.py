#!/usr/bin/env python3
"""Writes CASE/{config.json, golden.json, logits.bin}: logits of small models whose layers share keys
and values, by the float64 forward pass of tests/reference/forward.py, which is independent of adze.

Weights follow from the tensors' names by a hash (tests/reference/hashed_weights.py); golden.json lists
the tensors, tokens and rows. Layers that read another's keys and values have no tensors for them.
Before a case is written: every wrong reading of its sharing moves a logit by more than 2e-2.

    python3 make_golden.py      needs: numpy
"""

import json
import math
import pathlib
import sys

import numpy

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[3] / "tests" / "reference"))

from forward import forward, kv_sources  # noqa: E402
from hashed_weights import checksum, finalise, golden_weights, name_hash  # noqa: E402

VOCAB = 160
SEQ_LEN = 70
ROWS = [0, 1, 15, 16, 17, 31, 32, 33, 47, 63, 64, 69]
LLAMA = dict(
    model_type="llama", vocab_size=VOCAB, hidden_size=64, intermediate_size=96,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
    rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=True,
    torch_dtype="float32",
)
KINDS = ["sliding_attention", "full_attention"]
GEMMA = dict(
    LLAMA, model_type="gemma3_text", num_hidden_layers=8, num_attention_heads=2,
    num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=24, sliding_window=16,
    hidden_activation="gelu_pytorch_tanh", rope_local_base_freq=100.0,
    layer_types=[KINDS[i] for i in (0, 1, 0, 0, 1, 0, 1, 0)], num_kv_shared_layers=3,
)
# name: (configuration, wrong readings)
CASES = {
    "pairs_of_five": (
        LLAMA | dict(num_hidden_layers=5, kv_sharing={"factor": 2, "remainder": "first"}),
        [{"kv_sharing": {"source": [0, 1, 0, 3, 3]}}, {"kv_sharing": {"source": [0, 1, 1, 3, 1]}}]),
    "keep_ends_two_norms": (
        LLAMA | dict(num_hidden_layers=6, kv_sharing={"source": [0, 1, 1, 3, 3, 5],
                                                      "separate_norms": True}),
        [{"kv_sharing": {"source": [0, 1, 0, 3, 3, 5]}}]),
    "trailing_by_kind": (GEMMA, [{"kv_sharing": {"source": [0, 1, 2, 3, 4, 2, 4, 3]}},
                                 {"kv_sharing": {"source": [0, 1, 2, 3, 4, 3, 1, 3]}}]),
}


def tensors_of(config):
    """(name, shape) of a checkpoint."""
    hidden, wide, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    is_gemma = config["model_type"].startswith("gemma")
    yield "model.embed_tokens.weight", [VOCAB, hidden]
    yield "model.norm.weight", [hidden]
    for index, source in enumerate(kv_sources(config)):
        prefix = f"model.layers.{index}."
        yield prefix + "input_layernorm.weight", [hidden]
        yield prefix + "post_attention_layernorm.weight", [hidden]
        yield prefix + "self_attn.q_proj.weight", [heads * size, hidden]
        yield prefix + "self_attn.o_proj.weight", [hidden, heads * size]
        yield prefix + "mlp.gate_proj.weight", [wide, hidden]
        yield prefix + "mlp.up_proj.weight", [wide, hidden]
        yield prefix + "mlp.down_proj.weight", [hidden, wide]
        if is_gemma:
            yield prefix + "pre_feedforward_layernorm.weight", [hidden]
            yield prefix + "post_feedforward_layernorm.weight", [hidden]
            yield prefix + "self_attn.q_norm.weight", [size]
        if source != index:
            continue
        for part in "kv":
            yield prefix + f"self_attn.{part}_proj.weight", [kv_heads * size, hidden]
        if is_gemma:
            yield prefix + "self_attn.k_norm.weight", [size]
        if (config.get("kv_sharing") or {}).get("separate_norms"):
            yield prefix + "key_value_layernorm.weight", [hidden]


def offset_and_scale(name, shape, is_gemma):
    """Uniform in offset +- scale, as in tests/golden/models/make_models.py."""
    if len(shape) == 1 and is_gemma:
        is_large = name.endswith(("k_norm.weight", "model.norm.weight")) or ".post_" in name
        return (2.5, 0.49) if is_large else (-0.65, 0.15)
    if len(shape) == 1:
        return 1.0, 0.4
    if "embed_tokens" in name:
        return 0.0, 0.15 if is_gemma else 0.4
    gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
    return 0.0, round((2.5 if is_gemma else 1.0) * gain * math.sqrt(3 / shape[-1]), 4)


def tokens_of(name):
    drawn = finalise(numpy.uint64(name_hash("tokens " + name))
                     + numpy.arange(SEQ_LEN, dtype=numpy.uint64))
    return (drawn % numpy.uint64(VOCAB)).astype(int).tolist()


def make_case(name):
    config, wrong = CASES[name]
    is_gemma = config["model_type"].startswith("gemma")
    tensors = []
    for tensor, shape in sorted(tensors_of(config)):
        offset, scale = offset_and_scale(tensor, shape, is_gemma)
        tensors.append({"name": tensor, "shape": shape, "offset": offset, "scale": scale})
    golden = {"tensors": tensors}
    weights = golden_weights(golden)
    golden |= {"checksum": checksum(weights), "tokens": tokens_of(name), "rows": ROWS}
    logits = forward(config, weights, golden["tokens"])
    for change in wrong:
        moved = abs(forward(config | change, weights, golden["tokens"]) - logits)[ROWS]
        print(f"{name}: {change} moves a logit by {moved.max():.2g}")
        assert moved.max() > 2e-2
    if "separate_norms" in str(config):
        one = {k: v for k, v in weights.items() if "key_value_layernorm" not in k}
        moved = abs(forward(config, one, golden["tokens"]) - logits)[ROWS]
        print(f"{name}: one norm moves a logit by {moved.max():.2g}")
        assert moved.max() > 2e-2
    assert 0.5 < logits.std() < 6, logits.std()
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    text = json.dumps(golden, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (folder / "golden.json").write_text(text + "\n")
    (folder / "logits.bin").write_bytes(logits[ROWS].astype("<f4").tobytes())


if __name__ == "__main__":
    for case in CASES:
        make_case(case)
