#!/usr/bin/env python3
"""Writes a Hugging Face folder of Llama 3.2 1B's shape with random weights: for speed, not for text.

  bench/random_model.py OUT        then: adze convert --model OUT --to gguf --type q4_k_m --out 1b.gguf

The tokenizer is the default model's, filled up with tokens that no text has. Needs build/adze and
the default model; 2.5 GB.
"""

import json
import pathlib
import random
import struct
import sys
import tempfile

from measuring import ADZE, run, say

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2048, 8192, 16, 32, 8, 64, 128256
BLOCK_VALUES = 1 << 19


def shapes():
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    yield "model.norm.weight", [HIDDEN]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [HIDDEN]
        yield prefix + "post_attention_layernorm.weight", [HIDDEN]
        yield prefix + "self_attn.q_proj.weight", [HEADS * HEAD_DIM, HIDDEN]
        yield prefix + "self_attn.k_proj.weight", [KV_HEADS * HEAD_DIM, HIDDEN]
        yield prefix + "self_attn.v_proj.weight", [KV_HEADS * HEAD_DIM, HIDDEN]
        yield prefix + "self_attn.o_proj.weight", [HIDDEN, HEADS * HEAD_DIM]
        yield prefix + "mlp.gate_proj.weight", [INTERMEDIATE, HIDDEN]
        yield prefix + "mlp.up_proj.weight", [INTERMEDIATE, HIDDEN]
        yield prefix + "mlp.down_proj.weight", [HIDDEN, INTERMEDIATE]


def write_weights(path):
    """f16 values of one random block, again and again: no two rows of a matrix begin alike."""
    generator = random.Random(1)
    block = struct.pack(f"<{BLOCK_VALUES}e", *(generator.gauss(0, 0.02) for _ in range(BLOCK_VALUES)))
    header, offset = {}, 0
    for name, shape in shapes():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + 2 * count]}
        offset += 2 * count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = 0
        while offset > 0:
            part = block[start:] if start else block
            file.write(part[:offset])
            offset -= min(offset, len(part))
            start = (start + 2 * 77773) % len(block)


def write_tokenizer(source, out):
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    used = set(vocabulary.values()) | {token["id"] for token in tokenizer["added_tokens"]}
    for token in range(VOCAB):
        if token not in used:
            vocabulary[f"<unused {token}>"] = token
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (out / name).write_text((source / name).read_text())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "model")
        run([ADZE, "convert", "--model", "smollm2-135m", "--to", "hf", "--type", "f16", "--out", source])
        write_tokenizer(source, out)
    (out / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCAB, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "tie_word_embeddings": True, "torch_dtype": "float16", "bos_token_id": 1, "eos_token_id": 2}))
    write_weights(out / "model.safetensors")
    say(f"wrote {out}")


if __name__ == "__main__":
    main()
