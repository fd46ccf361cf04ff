"""The forward pass of every supported architecture in float64, from the definitions and without a
framework: slow, obvious, and independent of `transformers` and of our C++.

forward(config, weights, tokens, token_types=None) takes a Hugging Face config.json as a dict, in
the spelling of any release, and the checkpoint's tensors by name. It returns logits [seq, vocab] of
a causal model, or hidden states [seq, hidden] of an encoder.

Sources: Touvron et al., arXiv:2302.13971 (llama); Jiang et al., arXiv:2310.06825 (mistral); Qwen
team, arXiv:2407.10671 and 2505.09388; Gemma team, arXiv:2408.00118 and 2503.19786; Abdin et al.,
arXiv:2404.14219 (phi3); Devlin et al., arXiv:1810.04805 (bert); Su et al., arXiv:2104.09864 (rope);
Chen et al., arXiv:2306.15595 (linear); Peng et al., arXiv:2309.00071 (dynamic NTK, yarn); Ding et
al., arXiv:2402.13753 (longrope); Brandon et al., arXiv:2405.12981 (layers that share keys and values).
"""

import math

import numpy


# ---- rotary position embedding ------------------------------------------------------------------


def rope_parameters(config: dict, is_local: bool) -> dict:
    """One dict {rope_type, rope_theta, ...} whichever way the configuration spells it."""
    per_layer_kind = config.get("rope_parameters") or {}
    kind = "sliding_attention" if is_local else "full_attention"
    if kind in per_layer_kind:  # one dict a kind of layer
        found = dict(per_layer_kind[kind])
    elif per_layer_kind:  # one dict for all
        found = dict(per_layer_kind)
    elif is_local and "rope_local_base_freq" in config:  # local layers are never scaled
        return {"rope_type": "default", "rope_theta": config["rope_local_base_freq"]}
    else:
        found = dict(config.get("rope_scaling") or {})
        found["rope_theta"] = config.get("rope_theta", 10000.0)
    found["rope_type"] = found.get("rope_type", found.get("type", "default"))
    if found["rope_type"] == "su":
        found["rope_type"] = "longrope"
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        if found.get(name) is None and config.get(name) is not None:
            found[name] = config[name]
    return found


def yarn_frequencies(plain, rope, dim, theta, trained):
    factor = rope["factor"]

    def dimension_of(rotations):  # the dimension that turns this often within the trained context
        return dim * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    first = dimension_of(rope.get("beta_fast") or 32)
    last = dimension_of(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    index = numpy.arange(dim // 2)
    interpolated = numpy.clip((index - first) / max(last - first, 1e-3), 0, 1)
    frequencies = plain * (1 - interpolated) + plain / factor * interpolated

    def magnitude(multiplier):
        return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1.0

    if rope.get("attention_factor") is not None:
        return frequencies, rope["attention_factor"]
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return frequencies, magnitude(rope["mscale"]) / magnitude(rope["mscale_all_dim"])
    return frequencies, magnitude(1.0)


def llama3_frequencies(plain, rope, trained):
    wavelength = 2 * math.pi / plain
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = numpy.clip((trained / wavelength - low) / (high - low), 0, 1)
    return plain * kept + plain / rope["factor"] * (1 - kept)


def longrope_frequencies(plain, rope, trained, context, seq_len):
    chosen = rope["long_factor"] if seq_len > trained else rope["short_factor"]
    factor = rope.get("factor") or context / trained
    magnitude = rope.get("attention_factor")
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0
    return plain / numpy.array(chosen), magnitude


def rope_frequencies(config: dict, rope: dict, head_dim: int, seq_len: int):
    """(angle per position of each rotated pair [rotated / 2], factor on cosine and sine)"""
    dim = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    theta = rope["rope_theta"]
    context = config["max_position_embeddings"]
    trained = rope.get("original_max_position_embeddings") or context
    kind = rope["rope_type"]
    if kind == "dynamic" and seq_len > context:
        stretch = rope["factor"] * seq_len / context - (rope["factor"] - 1)
        theta = theta * stretch ** (dim / (dim - 2))
    plain = theta ** (-numpy.arange(0, dim, 2) / dim)
    if kind in ("default", "dynamic"):
        return plain, 1.0
    if kind == "linear":
        return plain / rope["factor"], 1.0
    if kind == "llama3":
        return llama3_frequencies(plain, rope, trained), 1.0
    if kind == "yarn":
        return yarn_frequencies(plain, rope, dim, theta, trained)
    if kind == "longrope":
        return longrope_frequencies(plain, rope, trained, context, seq_len)
    raise ValueError(f"rope_type: expected a known name, got {kind}")


def rotate(heads, frequencies, magnitude):
    """heads [seq, heads, head_dim]: pair (i, i + rotated / 2) turns by position * frequency i."""
    half = len(frequencies)
    angle = numpy.arange(heads.shape[0])[:, None, None] * frequencies  # [seq, 1, half]
    cosine, sine = numpy.cos(angle) * magnitude, numpy.sin(angle) * magnitude
    left, right, rest = heads[..., :half], heads[..., half : 2 * half], heads[..., 2 * half :]
    return numpy.concatenate(
        [left * cosine - right * sine, right * cosine + left * sine, rest], axis=-1
    )


# ---- parts ---------------------------------------------------------------------------------------


def rms_norm(values, weight, epsilon, is_offset):
    """Zhang, Sennrich, arXiv:1910.07467; gemma stores the weight minus one."""
    scaled = values / numpy.sqrt((values**2).mean(-1, keepdims=True) + epsilon)
    return scaled * (weight + 1 if is_offset else weight)


def layer_norm(values, weight, bias, epsilon):
    centred = values - values.mean(-1, keepdims=True)
    return centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weight + bias


def softmax(scores):
    scores = numpy.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def silu(values):
    return values / (1 + numpy.exp(-values))


def gelu(values):
    return values * 0.5 * (1 + numpy.vectorize(math.erf)(values / math.sqrt(2)))


def gelu_tanh(values):
    inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)
    return values * 0.5 * (1 + numpy.tanh(inner))


ACTIVATIONS = {"silu": silu, "gelu": gelu, "gelu_pytorch_tanh": gelu_tanh}


def soft_cap(values, cap):
    return values if not cap else cap * numpy.tanh(values / cap)


def causal_mask(seq_len, window):
    """[seq, seq], true where row may read column: itself and the window - 1 before it."""
    distance = numpy.arange(seq_len)[:, None] - numpy.arange(seq_len)
    return (distance >= 0) & (distance < (window or seq_len))


def attend(query, key, value, scale, mask=None, cap=None):
    """query [seq, heads, head_dim], key and value [seq, kv_heads, head_dim] -> [seq, heads * head_dim]"""
    group = query.shape[1] // key.shape[1]
    results = []
    for head in range(query.shape[1]):
        scores = soft_cap(query[:, head] @ key[:, head // group].T * scale, cap)
        if mask is not None:
            scores = numpy.where(mask, scores, -numpy.inf)
        results.append(softmax(scores) @ value[:, head // group])
    return numpy.concatenate(results, axis=-1)


class Weights:
    """The checkpoint in float64."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __getitem__(self, name):
        return numpy.asarray(self.tensors[name], dtype=numpy.float64)

    def linear(self, name, values):
        result = values @ self[name + ".weight"].T
        return result + self[name + ".bias"] if name + ".bias" in self.tensors else result


# ---- decoder -------------------------------------------------------------------------------------


def is_local_layer(config, index):
    """Whether a layer reads only a window."""
    family = config["model_type"]
    if config.get("layer_types"):
        return config["layer_types"][index] == "sliding_attention"
    if family == "gemma2":  # local first, then every second one
        return index % 2 == 0
    if family == "gemma3_text":  # the last of each group is global
        return (index + 1) % config.get("sliding_window_pattern", 6) != 0
    if family in ("qwen2", "qwen3"):
        return bool(config.get("use_sliding_window")) and index >= config["max_window_layers"]
    return config.get("sliding_window") is not None


def query_key_value(config, weights, prefix, values, heads, kv_heads, head_dim):
    if prefix + "qkv_proj.weight" in weights.tensors:  # phi3: one matrix, rows in this order
        joined = weights.linear(prefix + "qkv_proj", values)
        splits = [heads * head_dim, (heads + kv_heads) * head_dim]
        query, key, value = numpy.split(joined, splits, axis=-1)
    else:
        query, key, value = (weights.linear(prefix + part + "_proj", values) for part in "qkv")
    seq_len = values.shape[0]
    return (
        query.reshape(seq_len, heads, head_dim),
        key.reshape(seq_len, kv_heads, head_dim),
        value.reshape(seq_len, kv_heads, head_dim),
    )


def kv_sources(config):
    """For each layer the one whose keys and values it reads."""
    layers = config["num_hidden_layers"]
    sharing = config.get("kv_sharing") or {}
    if "source" in sharing:
        return sharing["source"]
    trailing = config.get("num_kv_shared_layers") or 0
    if trailing:  # the last unshared layer of the same kind
        kinds = config["layer_types"]
        own = layers - trailing
        return [*range(own), *(max(j for j in range(own) if kinds[j] == kinds[i])
                               for i in range(own, layers))]
    factor = sharing.get("factor", 1)
    groups = [factor] * (layers // factor)
    short = [layers % factor] if layers % factor else []
    groups = short + groups if sharing.get("remainder", "first") == "first" else groups + short
    return [sum(groups[:g]) for g, size in enumerate(groups) for _ in range(size)]


def self_attention(config, weights, index, values, key_value_input, shared):
    """`shared` holds the keys and values of the layers before."""
    prefix = f"model.layers.{index}.self_attn."
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    is_gemma = config["model_type"].startswith("gemma")
    source = kv_sources(config)[index]
    key = value = None
    if source == index:
        query, key, value = query_key_value(config, weights, prefix, values, heads, kv_heads, head_dim)
        if key_value_input is not values:
            _, key, value = query_key_value(
                config, weights, prefix, key_value_input, heads, kv_heads, head_dim
            )
    else:
        query = weights.linear(prefix + "q_proj", values).reshape(len(values), heads, head_dim)
    if prefix + "q_norm.weight" in weights.tensors:
        epsilon = config["rms_norm_eps"]
        query = rms_norm(query, weights[prefix + "q_norm.weight"], epsilon, is_gemma)
        if source == index:
            key = rms_norm(key, weights[prefix + "k_norm.weight"], epsilon, is_gemma)
    is_local = is_local_layer(config, index)
    rope = rope_parameters(config, is_local)
    frequencies, magnitude = rope_frequencies(config, rope, head_dim, len(values))
    query = rotate(query, frequencies, magnitude)
    if source == index:
        shared[index] = rotate(key, frequencies, magnitude), value
    key, value = shared[source]
    mask = causal_mask(len(values), config["sliding_window"] if is_local else None)
    scale = config.get("query_pre_attn_scalar", head_dim) ** -0.5
    mixed = attend(query, key, value, scale, mask, config.get("attn_logit_softcapping"))
    return weights.linear(prefix + "o_proj", mixed)


def feed_forward(config, weights, index, values):
    prefix = f"model.layers.{index}.mlp."
    activation = ACTIVATIONS[config.get("hidden_activation") or config["hidden_act"]]
    if prefix + "gate_up_proj.weight" in weights.tensors:
        gate, up = numpy.split(weights.linear(prefix + "gate_up_proj", values), 2, axis=-1)
    else:
        gate, up = (weights.linear(prefix + part, values) for part in ("gate_proj", "up_proj"))
    return weights.linear(prefix + "down_proj", activation(gate) * up)


def decoder(config, weights, tokens):
    is_gemma = config["model_type"].startswith("gemma")

    def norm(name, values):
        return rms_norm(values, weights[name + ".weight"], config["rms_norm_eps"], is_gemma)

    embedding = weights["model.embed_tokens.weight"]
    values = embedding[tokens]  # [seq, hidden]
    if is_gemma:
        values = values * math.sqrt(config["hidden_size"])
    shared = {}
    for index in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{index}."
        normed = key_value_input = norm(prefix + "input_layernorm", values)
        if prefix + "key_value_layernorm.weight" in weights.tensors:
            key_value_input = norm(prefix + "key_value_layernorm", values)
        branch = self_attention(config, weights, index, normed, key_value_input, shared)
        if is_gemma:  # norms around both branches
            values = values + norm(prefix + "post_attention_layernorm", branch)
            branch = norm(prefix + "pre_feedforward_layernorm", values)
            branch = feed_forward(config, weights, index, branch)
            values = values + norm(prefix + "post_feedforward_layernorm", branch)
        else:
            values = values + branch
            branch = norm(prefix + "post_attention_layernorm", values)
            values = values + feed_forward(config, weights, index, branch)
    values = norm("model.norm", values)
    is_tied = "lm_head.weight" not in weights.tensors
    logits = values @ (embedding if is_tied else weights["lm_head.weight"]).T
    return soft_cap(logits, config.get("final_logit_softcapping"))


# ---- encoder -------------------------------------------------------------------------------------


def encoder(config, weights, tokens, token_types):
    epsilon = config["layer_norm_eps"]
    heads = config["num_attention_heads"]
    head_dim = config["hidden_size"] // heads
    seq_len = len(tokens)

    def norm(name, values):
        return layer_norm(values, weights[name + ".weight"], weights[name + ".bias"], epsilon)

    values = (
        weights["embeddings.word_embeddings.weight"][tokens]
        + weights["embeddings.position_embeddings.weight"][:seq_len]
        + weights["embeddings.token_type_embeddings.weight"][token_types]
    )
    values = norm("embeddings.LayerNorm", values)
    for index in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{index}."
        query, key, value = (
            weights.linear(prefix + "attention.self." + part, values).reshape(seq_len, heads, head_dim)
            for part in ("query", "key", "value")
        )
        mixed = attend(query, key, value, head_dim**-0.5)
        branch = weights.linear(prefix + "attention.output.dense", mixed)
        values = norm(prefix + "attention.output.LayerNorm", values + branch)
        inner = weights.linear(prefix + "intermediate.dense", values)
        branch = weights.linear(prefix + "output.dense", ACTIVATIONS[config["hidden_act"]](inner))
        values = norm(prefix + "output.LayerNorm", values + branch)
    return values


def forward(config: dict, tensors: dict, tokens: list[int], token_types: list[int] | None = None):
    weights = Weights(tensors)
    if config["model_type"] == "bert":
        return encoder(config, weights, tokens, token_types or [0] * len(tokens))
    return decoder(config, weights, tokens)
