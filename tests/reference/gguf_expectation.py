"""What a GGUF file must hold for llama.cpp to read a Hugging Face checkpoint: names from the tables of
the `gguf` package, values and metadata from its conventions, written down here independently of ours.
"""

import gguf
import numpy

from forward import llama3_frequencies, rope_parameters

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "bert": gguf.MODEL_ARCH.BERT,
}


def architecture_name(config: dict) -> str:
    return gguf.MODEL_ARCH_NAMES[ARCHITECTURES[config["model_type"]]]


def head_dim_of(config: dict) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def interleaved(weight: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Rows of a head so that the two halves of each rotated pair are neighbours."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def expected_value(config: dict, name: str, weight: numpy.ndarray) -> numpy.ndarray:
    if ARCHITECTURES[config["model_type"]] == gguf.MODEL_ARCH.LLAMA:
        if ".q_proj." in name:
            return interleaved(weight, config["num_attention_heads"])
        if ".k_proj." in name:
            return interleaved(weight, config["num_key_value_heads"])
    if config["model_type"].startswith("gemma") and name.endswith("norm.weight"):
        return weight + numpy.float32(1)
    return weight


def expected_tensors(config: dict, weights: dict) -> tuple[dict, set]:
    """(values by name in GGUF, f32; Hugging Face names that llama.cpp has no place for)"""
    names = gguf.get_tensor_name_map(ARCHITECTURES[config["model_type"]], config["num_hidden_layers"])
    result, unplaced = {}, set()
    for name, weight in weights.items():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            unplaced.add(name)
        else:
            result[target] = expected_value(config, name, weight)
    if config["model_type"] == "bert":
        return result, unplaced
    rope = rope_parameters(config, is_local=False)
    if rope["rope_type"] == "llama3":
        dim = head_dim_of(config)
        plain = rope["rope_theta"] ** (-numpy.arange(0, dim, 2) / dim)
        scaled = llama3_frequencies(plain, rope, rope["original_max_position_embeddings"])
        result["rope_freqs.weight"] = plain / scaled
    if rope["rope_type"] == "longrope":
        result["rope_factors_long.weight"] = numpy.array(rope["long_factor"])
        result["rope_factors_short.weight"] = numpy.array(rope["short_factor"])
    return result, unplaced


def scaling_metadata(config: dict) -> dict:
    rope = rope_parameters(config, is_local=False)
    kind = rope["rope_type"]
    result = {"rope.freq_base": rope["rope_theta"]}
    if kind in ("linear", "yarn"):
        result |= {"rope.scaling.type": kind, "rope.scaling.factor": rope["factor"]}
    if kind in ("yarn", "longrope"):
        trained = rope["original_max_position_embeddings"]
        result["rope.scaling.original_context_length"] = trained
    if kind == "longrope":
        factor = config["max_position_embeddings"] / trained
        result["rope.scaling.attn_factor"] = numpy.sqrt(1 + numpy.log(factor) / numpy.log(trained))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        result["rope.dimension_count"] = int(head_dim_of(config) * rope["partial_rotary_factor"])
    return result


def expected_metadata(config: dict) -> dict:
    """The keys without which llama.cpp fails or computes something else."""
    result = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
    }
    if config["model_type"] == "bert":
        result |= {"attention.layer_norm_epsilon": config["layer_norm_eps"], "attention.causal": False}
    else:
        result |= {
            "attention.head_count_kv": config["num_key_value_heads"],
            "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        } | scaling_metadata(config)
    if head_dim_of(config) * config["num_attention_heads"] != config["hidden_size"]:
        result |= dict.fromkeys(["attention.key_length", "attention.value_length"], head_dim_of(config))
    if config["model_type"] in ("gemma2", "gemma3_text", "phi3") and config["sliding_window"]:
        result["attention.sliding_window"] = config["sliding_window"]
    if config["model_type"] == "gemma2":
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            result[key] = config[key]
    prefix = architecture_name(config) + "."
    return {prefix + key: value for key, value in result.items()}
