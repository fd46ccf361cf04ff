"""A llama in float64 over a cache that can be looked at and cut: for the derivations of methods that
drop tokens. Keys are kept unrotated; every step rotates them anew, to their positions in the text or to
their ranks in the cache. Nothing is reused, everything is stored.

Small models for it: tensors_of() names them, weights follow from the names by a hash.
"""

import math

import numpy

from forward import Weights, feed_forward, rms_norm
from hashed_weights import checksum, finalise, golden_weights, name_hash

LLAMA = dict(
    model_type="llama", vocab_size=160, hidden_size=64, intermediate_size=96, num_hidden_layers=6,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
    rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=True,
    torch_dtype="float32",
)


def tensors_of(config):
    """The checkpoint as golden.json lists it: name, shape, and where its numbers lie."""
    hidden, wide, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for index in range(config["num_hidden_layers"]):
        stem = f"model.layers.{index}."
        shapes[stem + "input_layernorm.weight"] = shapes[stem + "post_attention_layernorm.weight"] = [hidden]
        shapes[stem + "self_attn.q_proj.weight"] = [heads * size, hidden]
        shapes[stem + "self_attn.k_proj.weight"] = shapes[stem + "self_attn.v_proj.weight"] = [kv_heads * size, hidden]
        shapes[stem + "self_attn.o_proj.weight"] = [hidden, heads * size]
        shapes[stem + "mlp.gate_proj.weight"] = shapes[stem + "mlp.up_proj.weight"] = [wide, hidden]
        shapes[stem + "mlp.down_proj.weight"] = [hidden, wide]
    tensors = []
    for name, shape in sorted(shapes.items()):
        offset, scale = (1.0, 0.4) if len(shape) == 1 else (0.0, round(math.sqrt(3 / shape[-1]), 4))
        if "q_proj" in name or "k_proj" in name:
            scale = round(1.5 * scale, 4)
        if "embed_tokens" in name:
            scale = 0.4
        tensors.append({"name": name, "shape": shape, "offset": offset, "scale": scale})
    return tensors


def golden_model(config):
    """What golden.json says of the weights, and the weights."""
    golden = {"tensors": tensors_of(config)}
    weights = golden_weights(golden)
    return golden | {"checksum": checksum(weights)}, weights


def tokens_of(name, count, vocab_size):
    drawn = finalise(numpy.uint64(name_hash("tokens " + name)) + numpy.arange(count, dtype=numpy.uint64))
    return (drawn % numpy.uint64(vocab_size)).astype(int).tolist()


class CachedLlama:
    """ranks: keys and queries are rotated to ranks in the cache instead of positions in the text."""

    def __init__(self, config, weights, ranks=False):
        self.config, self.weights, self.ranks = config, Weights(weights), ranks
        self.layers = config["num_hidden_layers"]
        width = (0, config["num_key_value_heads"], config["head_dim"])
        self.keys = [numpy.empty(width) for _ in range(self.layers)]
        self.values = [numpy.empty(width) for _ in range(self.layers)]
        self.positions = [numpy.empty(0, dtype=int) for _ in range(self.layers)]  # in the text
        self.seen = 0

    def rotate(self, heads, places):
        half = self.config["head_dim"] // 2
        angles = numpy.asarray(places)[:, None, None] * self.config["rope_theta"] ** (-numpy.arange(half) / half)
        left, right = heads[..., :half], heads[..., half:]
        return numpy.concatenate([left * numpy.cos(angles) - right * numpy.sin(angles),
                                  right * numpy.cos(angles) + left * numpy.sin(angles)], axis=-1)

    def attend(self, layer, hidden, positions):
        """(mixed values [rows, heads * size], probabilities [heads, rows, cached])"""
        stem = f"model.layers.{layer}.self_attn."
        size = self.config["head_dim"]
        split = lambda name: self.weights.linear(stem + name, hidden).reshape(len(hidden), -1, size)  # noqa: E731
        query = split("q_proj")
        self.keys[layer] = numpy.concatenate([self.keys[layer], split("k_proj")])
        self.values[layer] = numpy.concatenate([self.values[layer], split("v_proj")])
        self.positions[layer] = numpy.concatenate([self.positions[layer], positions])
        cached, rows = len(self.keys[layer]), len(hidden)
        places = numpy.arange(cached) if self.ranks else self.positions[layer]
        query = self.rotate(query, places[cached - rows:])
        keys = self.rotate(self.keys[layer], places)
        hides = numpy.arange(cached)[None, :] > numpy.arange(cached - rows, cached)[:, None]
        group = query.shape[1] // keys.shape[1]
        mixed, probabilities = [], []
        for head in range(query.shape[1]):
            scores = query[:, head] @ keys[:, head // group].T / math.sqrt(size)
            scores[hides] = -numpy.inf
            weights = numpy.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            probabilities.append(weights)
            mixed.append(weights @ self.values[layer][:, head // group])
        return numpy.concatenate(mixed, axis=-1), numpy.array(probabilities)

    def step(self, tokens, on_layer=lambda layer, probabilities: None):
        """Logits of the rows that are left. on_layer may name the rows that go on to the next layer."""
        norm = lambda name, values: rms_norm(  # noqa: E731
            values, self.weights[name + ".weight"], self.config["rms_norm_eps"], False)
        embedding = self.weights["model.embed_tokens.weight"]
        hidden = embedding[tokens]
        positions = numpy.arange(self.seen, self.seen + len(tokens))
        for layer in range(self.layers):
            stem = f"model.layers.{layer}."
            mixed, probabilities = self.attend(layer, norm(stem + "input_layernorm", hidden), positions)
            hidden = hidden + self.weights.linear(stem + "self_attn.o_proj", mixed)
            branch = norm(stem + "post_attention_layernorm", hidden)
            hidden = hidden + feed_forward(self.config, self.weights, layer, branch)
            goes_on = on_layer(layer, probabilities)
            if goes_on is not None:
                hidden, positions = hidden[goes_on], positions[goes_on]
        self.seen += len(tokens)
        return norm("model.norm", hidden) @ embedding.T

    def keep(self, layer, columns):
        for of in (self.keys, self.values, self.positions):
            of[layer] = of[layer][columns]
