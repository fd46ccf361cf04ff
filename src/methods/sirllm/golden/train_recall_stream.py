#!/usr/bin/env python3
"""Trains the model of the recall stream and writes recall_stream/{config.json, model.safetensors}.

The stream: BOS, 2 filler phrases, BUY item SEP, M filler phrases, ASK, and the answer is the item.
An item is one of 20 and so surprises by 3.0 nats; a phrase is 8 fixed tokens, one of 8 phrases, so its
first token surprises by 2.1 nats and the others by none. A cache of fixed size that keeps what was
surprising holds the item until it is asked for, one that keeps what is recent does not.

4 layers of 64, as Llama has them; full attention, M drawn from 0 to 8; 500 steps take half a minute.

    python3 train_recall_stream.py      needs: torch, numpy
"""

import json
import math
import pathlib
import struct

import numpy
import torch
from torch.nn import functional

FOLDER = pathlib.Path(__file__).resolve().parent / "recall_stream"
BOS, BUY, SEP, ASK = range(4)
ITEMS, FIRST_ITEM = 20, 4
PHRASES, PHRASE_TOKENS, FIRST_PHRASE = 8, 8, 24
VOCAB = FIRST_PHRASE + PHRASES * PHRASE_TOKENS
HIDDEN, WIDE, LAYERS, HEADS, EPSILON, BASE = 64, 64, 4, 4, 1e-5, 10000.0
HEAD = HIDDEN // HEADS
STEPS, BATCH, RATE, MOST_PHRASES = 500, 16, 2e-3, 8


def stream(rng, phrases):
    """Tokens of one stream with `phrases` phrases between the item and the question, answer last."""
    def filler(count):
        first = FIRST_PHRASE + PHRASE_TOKENS * rng.integers(PHRASES, size=count)
        return (first[:, None] + numpy.arange(PHRASE_TOKENS)).ravel().tolist()
    item = FIRST_ITEM + int(rng.integers(ITEMS))
    return [BOS, *filler(2), BUY, item, SEP, *filler(phrases), ASK, item]


def parameters():
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{stem}self_attn.{name}.weight"] = (HIDDEN, HIDDEN)
        shapes[stem + "mlp.gate_proj.weight"] = shapes[stem + "mlp.up_proj.weight"] = (WIDE, HIDDEN)
        shapes[stem + "mlp.down_proj.weight"] = (HIDDEN, WIDE)
        shapes[stem + "input_layernorm.weight"] = shapes[stem + "post_attention_layernorm.weight"] = (HIDDEN,)
    weights = {}
    for name, shape in shapes.items():
        norm = len(shape) == 1
        values = torch.ones(shape) if norm else torch.randn(shape) / math.sqrt(shape[1])
        if name == "model.embed_tokens.weight":
            values = 0.5 * values
        weights[name] = values.requires_grad_()
    return weights


def rms_norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def rotate(x):
    """[batch, heads, seq, head]: dimension i is paired with i + head / 2."""
    angles = torch.arange(x.shape[2])[:, None] * BASE ** (-torch.arange(0, HEAD, 2) / HEAD)
    low, high = x.chunk(2, -1)
    return torch.cat((low * angles.cos() - high * angles.sin(), high * angles.cos() + low * angles.sin()), -1)


def logits(weights, tokens):
    x = weights["model.embed_tokens.weight"][tokens]
    split = lambda y: y.view(*tokens.shape, HEADS, HEAD).transpose(1, 2)  # noqa: E731
    for layer in range(LAYERS):
        of = lambda name: weights[f"model.layers.{layer}.{name}.weight"]  # noqa: E731, B023
        h = rms_norm(x, of("input_layernorm"))
        query, key, value = (split(h @ of(f"self_attn.{name}_proj").T) for name in "qkv")
        seen = functional.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        x = x + seen.transpose(1, 2).reshape(x.shape) @ of("self_attn.o_proj").T
        h = rms_norm(x, of("post_attention_layernorm"))
        x = x + (functional.silu(h @ of("mlp.gate_proj").T) * (h @ of("mlp.up_proj").T)) @ of("mlp.down_proj").T
    return rms_norm(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T


def accuracy(weights, rng, phrases, count=200):
    tokens = torch.tensor([stream(rng, phrases) for _ in range(count)])
    with torch.no_grad():
        answers = logits(weights, tokens[:, :-1])[:, -1].argmax(-1)
    return (answers == tokens[:, -1]).float().mean().item()


def write(weights):
    FOLDER.mkdir(exist_ok=True)
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCAB, hidden_size=HIDDEN,
        intermediate_size=WIDE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, head_dim=HEAD, max_position_embeddings=512, rms_norm_eps=EPSILON,
        rope_theta=BASE, hidden_act="silu", tie_word_embeddings=True, bos_token_id=BOS,
        eos_token_id=ASK, torch_dtype="float16")
    (FOLDER / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in sorted(weights.items()):
        half = values.detach().numpy().astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + len(half)]}
        data += half
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (FOLDER / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rng = numpy.random.default_rng(1)
    weights = parameters()
    optimizer = torch.optim.AdamW(weights.values(), lr=RATE, weight_decay=0.01)
    for step in range(STEPS):
        phrases = int(rng.integers(MOST_PHRASES + 1))
        tokens = torch.tensor([stream(rng, phrases) for _ in range(BATCH)])
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (STEPS - step) / (STEPS / 5))  # falls over the last fifth
        rows = logits(weights, tokens[:, :-1])
        losses = functional.cross_entropy(rows.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        # Of all tokens and, as much again, of the answer.
        loss = losses.mean() + losses.view(BATCH, -1)[:, -1].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, answers right {accuracy(weights, rng, 8):.3f}")
    write(weights)


if __name__ == "__main__":
    main()
