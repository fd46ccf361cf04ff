#!/usr/bin/env python3
"""Writes logits.json, the reference for logits_test.cpp. Seed 20260919.

The reference is the LlamaForCausalLM of `transformers` in f32. Its weights are the ones of the GGUF
file, dequantised by the `gguf` package, so that only the arithmetic can differ. Row h * d + 2 * i + j
of a query or key weight in the file is row h * d + j * d / 2 + i of the reference (d: head size).

Per prompt: its token ids, and of some rows the 20 largest logits and those of 100 tokens drawn once.

    python3 make_logits.py MODEL.gguf     needs: gguf 0.19, tokenizers, torch 2.11, transformers 5
"""

import json
import pathlib
import random
import sys

import numpy
import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = pathlib.Path(__file__).parent
SEED = 20260919
CONTROL = 3  # token type in GGUF
TOP = 20
DRAWN = 100

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

QUESTION = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhich planet is the largest, and why does its red spot not fade?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
CODE = (
    "def greatest_common_divisor(left, right):\n    while right != 0:\n        left, right = right, left % right\n"
    "    return left\n\n# Grüße, 你好, 😀: 3.14159, 1_000_000\nprint(greatest_common_divisor(1071, 462))\n"
)
STORY = (
    "The harbour master kept two books. In the first he wrote down every ship that came in, the "
    "hour, the wind and the cargo; in the second, which nobody was allowed to read, he wrote what "
    "he thought the captains had left out. Over the years the second book grew thicker than the "
    "first. When the old lighthouse was sold to a painter from the city, it turned out that both "
    "books had been written with the same pen, and that the painter was one of the captains. "
    "Nobody in the village was surprised. They had known for a long time that the harbour master "
    "could not see the ships from his window, and that he asked the children who ran along the "
    "pier to tell him about them. Some of the children invented ships, with names such as the "
    "Silver Kettle or the Patient Walrus, and these too were written down with hour, wind and "
    "cargo. On winter evenings, when the harbour was frozen and no ship could come in, the list "
    "of arrivals was as long as in summer. "
)


def text_values(reader, name):
    field = reader.fields[name]
    return [bytes(field.parts[index]).decode() for index in field.data]


def read_tokenizer(reader):
    tokens = text_values(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in text_values(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False)
         for token, kind in zip(tokens, kinds) if kind == CONTROL])
    return tokenizer


def read_model(reader):
    def value(name):
        return reader.fields["llama." + name].contents()

    heads = value("attention.head_count")
    kv_heads = value("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=value("vocab_size"),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    weights = {}
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32))
        if parts[0] == "blk":
            kind = parts[2]
            name = f"model.layers.{parts[1]}.{NAMES[kind]}.weight"
            if kind in ("attn_q", "attn_k"):
                count = heads if kind == "attn_q" else kv_heads
                pairs = values.reshape(count, values.shape[0] // count // 2, 2, values.shape[1])
                values = pairs.transpose(1, 2).reshape(values.shape)
        else:
            name = f"{NAMES[parts[0]]}.weight"
        weights[name] = values.contiguous()
    model = LlamaForCausalLM(config).to(torch.float32).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected, (missing, unexpected)
    model.tie_weights()
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def main():
    reader = GGUFReader(sys.argv[1])
    tokenizer = read_tokenizer(reader)
    model = read_model(reader)
    generator = random.Random(SEED)
    size = model.config.vocab_size
    drawn = sorted(generator.sample(range(size), DRAWN))
    story = tokenizer.encode(STORY).ids
    prompts = {
        "one token": [tokenizer.encode("Once").ids[0]],
        "question": tokenizer.encode(QUESTION).ids,
        "code": tokenizer.encode(CODE).ids,
        # Natural text, then tokens that follow from nothing, then the text again: 600 in all.
        "long": (story + [generator.randrange(size) for _ in range(600)])[: 600 - len(story)] + story,
    }
    result = {"seed": SEED, "drawn": drawn, "prompts": []}
    for name, ids in prompts.items():
        logits = logits_of(model, ids)
        last = len(ids) - 1
        rows = sorted({row for row in (0, 1, 31, 32, 255, 256, 450, last - 1, last) if 0 <= row <= last})
        entries = []
        for row in rows:
            top = numpy.argsort(-logits[row], kind="stable")[:TOP]
            entries.append({"row": row, "top": top.tolist(),
                            "top_logits": [round(float(logits[row, token]), 5) for token in top],
                            "drawn_logits": [round(float(logits[row, token]), 5) for token in drawn]})
        result["prompts"].append({"name": name, "tokens": ids, "rows": entries})
    text = json.dumps(result, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (FOLDER / "logits.json").write_text(text.replace('{"row"', '\n{"row"') + "\n")


if __name__ == "__main__":
    main()
