#!/usr/bin/env python3
"""Writes CASE/{config.json, config_published.json, golden.json, logits.bin or hidden.bin}: for every
architecture and option the logits of a small model by `transformers`, f32, eager attention.

Weights are not stored: tests/reference/hashed_weights.py makes them from names, with an offset and a
scale a tensor that golden.json lists. The tensors are those of the checkpoint as save_pretrained
stores it (a tied lm_head is absent).

    config.json            as this release of transformers saves it
    config_published.json  the same model in the spelling of published checkpoints (Llama-2 and 3.2,
                           Mistral-7B-v0.1, Qwen2.5, Qwen3, gemma-2, gemma-3, Phi-3, MiniLM)
    logits.bin             f32 little endian [rows, vocab]: the rows of golden.json
    hidden.bin             for encoders: [rows, hidden], sequence after sequence

Before a case is written, this script checks that
  1. tests/reference/forward.py (float64, NumPy) agrees within 1e-4,
  2. transformers computes the same numbers from config_published.json, bit for bit,
  3. every wrong reading of the case's configuration that CASES lists moves an output by more than
     2e-2 (another form of GELU: 5e-4), so that the case can fail,
  4. logits are spread and attention is not uniform.

    python3 make_models.py [CASE...]      needs: torch 2.11, transformers 5.23, safetensors, numpy
"""

import copy
import json
import math
import pathlib
import sys
import tempfile

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1] / "reference"))

from forward import forward  # noqa: E402
from hashed_weights import checksum, finalise, golden_weights, name_hash  # noqa: E402

VOCAB = 160
SEQ_LEN = 70
ROWS = [0, 1, 15, 16, 17, 31, 32, 33, 47, 63, 64, 69]
REFERENCE_BOUND = 1e-4
MUTATION_BOUND = 2e-2
GELU_BOUND = 5e-4

# ---- cases ---------------------------------------------------------------------------------------

SMALL = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
WIDE_HEADS = dict(num_attention_heads=2, num_key_value_heads=1)  # head_dim 32: 16 frequencies
OTHER_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}  # same shapes


def rope(kind, theta=10000.0, **parameters):
    return {"rope_type": kind, "rope_theta": theta, **parameters}


def factors(count, first, last):
    """Rising multipliers, as published ones are."""
    return [round(first * (last / first) ** (i / (count - 1)), 4) for i in range(count)]


YARN = dict(factor=4.0, original_max_position_embeddings=1024)
YARN_SIZE = dict(**WIDE_HEADS, max_position_embeddings=4096)
LONG = dict(short_factor=factors(8, 1.0, 2.5), long_factor=factors(8, 1.1, 30.0))
WINDOW = dict(sliding_window=16)
GEMMA2 = dict(
    num_hidden_layers=4,
    head_dim=32,
    query_pre_attn_scalar=24,
    attn_logit_softcapping=8.0,
    final_logit_softcapping=5.0,
    **WINDOW,
)
GEMMA3 = dict(num_hidden_layers=7, head_dim=32, query_pre_attn_scalar=24, **WINDOW)
LOCAL_ROPE = rope("default", 100.0)
EXACT_GELU = {"hidden_activation": "gelu"}
BERT = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=2,
    max_position_embeddings=96,
    type_vocab_size=2,
)

# name: (model type, configuration, wrong readings of it). A wrong reading is a dict of dotted keys
# of config.json and their values, None for a key that was not seen.
CASES = {
    "llama": ("llama", SMALL, [OTHER_HEADS, {"rope_parameters.rope_theta": 500.0}]),
    "llama_tied": ("llama", SMALL | dict(tie_word_embeddings=True, rms_norm_eps=1e-2),
                   [{"rms_norm_eps": 1e-6}]),
    "llama_head_dim": ("llama", SMALL | dict(head_dim=32), [{"query_pre_attn_scalar": 16}]),
    "llama_bias": ("llama", SMALL | dict(attention_bias=True, mlp_bias=True), []),
    "llama_rope_linear": ("llama", SMALL | WIDE_HEADS | dict(rope_parameters=rope("linear", factor=4.0)),
                          [{"rope_parameters.rope_type": "default"}]),
    "llama_rope_dynamic": ("llama", SMALL | WIDE_HEADS | dict(
        max_position_embeddings=32, rope_parameters=rope("dynamic", factor=4.0)),
        [{"rope_parameters.rope_type": "default"}, {"max_position_embeddings": 64}]),
    "llama_rope_yarn": ("llama", SMALL | YARN_SIZE | dict(rope_parameters=rope("yarn", **YARN)),
                        [{"rope_parameters.rope_type": "default"}, {"rope_parameters.rope_type": "linear"},
                         {"rope_parameters.attention_factor": 1.0},
                         {"rope_parameters.original_max_position_embeddings": 4096}]),
    "llama_rope_yarn_attention_factor": ("llama", SMALL | YARN_SIZE | dict(
        rope_parameters=rope("yarn", **YARN, attention_factor=1.4)),
        [{"rope_parameters.attention_factor": None}]),
    "llama_rope_yarn_mscale": ("llama", SMALL | YARN_SIZE | dict(
        rope_parameters=rope("yarn", **YARN, mscale=2.0, mscale_all_dim=0.5)),
        [{"rope_parameters.mscale": None}, {"rope_parameters.mscale_all_dim": None}]),
    "llama_rope_yarn_untruncated": ("llama", SMALL | YARN_SIZE | dict(
        rope_parameters=rope("yarn", **YARN, truncate=False)),
        [{"rope_parameters.truncate": None}]),
    "llama_rope_yarn_betas": ("llama", SMALL | YARN_SIZE | dict(
        rope_parameters=rope("yarn", **YARN, beta_fast=16, beta_slow=2)),
        [{"rope_parameters.beta_fast": None}, {"rope_parameters.beta_slow": None}]),
    "llama_rope_llama3": ("llama", SMALL | WIDE_HEADS | dict(
        tie_word_embeddings=True,
        rope_parameters=rope("llama3", 500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=128)),
        [{"rope_parameters.rope_type": "default"}, {"rope_parameters.rope_type": "linear"},
         {"rope_parameters.high_freq_factor": 2.0}, {"rope_parameters.low_freq_factor": 0.5},
         {"rope_parameters.original_max_position_embeddings": 512}]),
    "mistral": ("mistral", SMALL | WINDOW,
                [{"sliding_window": None}, {"sliding_window": 15}, {"sliding_window": 17}]),
    "mistral_head_dim": ("mistral", SMALL | dict(head_dim=32, sliding_window=None),
                         [{"sliding_window": 16}]),
    "qwen2": ("qwen2", SMALL | dict(tie_word_embeddings=True, sliding_window=16, max_window_layers=1,
                                    use_sliding_window=False),
              [{"layer_types": None, "sliding_window": 16, "use_sliding_window": True}]),
    "qwen2_window": ("qwen2", SMALL | dict(sliding_window=16, max_window_layers=1, use_sliding_window=True),
                     [{"layer_types": ["full_attention"] * 2}, {"layer_types": ["sliding_attention"] * 2}]),
    "qwen3": ("qwen3", SMALL | dict(head_dim=32, tie_word_embeddings=True,
                                    rope_parameters=rope("default", 1000000.0)),
              [{"rope_parameters.rope_theta": 10000.0}]),
    "gemma2": ("gemma2", SMALL | GEMMA2,
               [{"attn_logit_softcapping": None}, {"final_logit_softcapping": None},
                {"query_pre_attn_scalar": 32}, {"layer_types": ["full_attention"] * 4},
                {"layer_types": ["full_attention", "sliding_attention"] * 2},
                {"sliding_window": 17}, EXACT_GELU]),
    "gemma3": ("gemma3_text", SMALL | GEMMA3 | dict(rope_parameters={
        "sliding_attention": LOCAL_ROPE, "full_attention": rope("default", 1000.0)}),
        [{"rope_parameters.full_attention.rope_theta": 100.0},
         {"rope_parameters.sliding_attention.rope_theta": 1000.0},
         {"layer_types": ["full_attention"] * 7}, {"layer_types": ["sliding_attention"] * 7},
         {"query_pre_attn_scalar": 32}, {"sliding_window": 15}]),
    "gemma3_scaled": ("gemma3_text", SMALL | GEMMA3 | dict(rope_parameters={
        "sliding_attention": LOCAL_ROPE, "full_attention": rope("linear", 1000.0, factor=8.0)}),
        [{"rope_parameters.full_attention.rope_type": "default"},
         {"rope_parameters.sliding_attention.rope_type": "linear",
          "rope_parameters.sliding_attention.factor": 8.0}]),
    "phi3": ("phi3", SMALL | dict(sliding_window=None), [OTHER_HEADS]),
    "phi3_window": ("phi3", SMALL | WINDOW, [{"sliding_window": None}, {"sliding_window": 17}]),
    "phi3_longrope_short": ("phi3", SMALL | dict(
        max_position_embeddings=512, original_max_position_embeddings=128, sliding_window=2048,
        rope_parameters=rope("longrope", **LONG)),
        [{"rope_parameters.short_factor": LONG["long_factor"]}, {"rope_parameters.attention_factor": 1.0}]),
    "phi3_longrope_long": ("phi3", SMALL | dict(
        max_position_embeddings=512, original_max_position_embeddings=32, sliding_window=2048,
        rope_parameters=rope("longrope", **LONG)),
        [{"rope_parameters.long_factor": LONG["short_factor"]}, {"rope_parameters.attention_factor": 1.0}]),
    "phi3_partial_rotary": ("phi3", SMALL | dict(
        hidden_size=128, num_attention_heads=2, num_key_value_heads=1, sliding_window=None,
        tie_word_embeddings=True, partial_rotary_factor=0.75),
        [{"partial_rotary_factor": 1.0, "rope_parameters.partial_rotary_factor": 1.0}]),
    "phi3_partial_longrope": ("phi3", SMALL | dict(
        hidden_size=128, num_attention_heads=2, num_key_value_heads=1, sliding_window=None,
        partial_rotary_factor=0.75, max_position_embeddings=512, original_max_position_embeddings=32,
        rope_parameters=rope("longrope", short_factor=factors(24, 1.0, 2.5),
                             long_factor=factors(24, 1.1, 30.0))),
        [{"rope_parameters.long_factor": factors(24, 1.0, 2.5)}]),
    "bert": ("bert", BERT, [{"num_attention_heads": 4}, {"layer_norm_eps": 1e-2},
                            {"hidden_act": "gelu_pytorch_tanh"}]),
}
# Wrong readings that leave no trace in a configuration: no tensor of such a name was read.
IGNORED_TENSORS = {
    "llama_bias": ["q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias", "gate_proj.bias",
                   "up_proj.bias", "down_proj.bias"],
    "qwen2": ["q_proj.bias", "k_proj.bias", "v_proj.bias"],
    "qwen3": ["q_norm.weight"],
    "gemma3": ["q_norm.weight"],
    "bert": ["query.bias", "value.bias", "LayerNorm.bias"],
}

# ---- weights -------------------------------------------------------------------------------------


def offset_and_scale(name: str, shape: list[int], config: dict) -> tuple[float, float]:
    """Uniform in offset +- scale: activations near unit size, attention scores of a few units."""
    is_gemma = config["model_type"].startswith("gemma")
    if len(shape) == 1 and name.endswith(".bias"):
        # A bias common to all keys of a head cancels in the softmax: larger, to be seen through rope.
        return 0.0, 1.0 if ".k_proj." in name else 0.4
    if len(shape) == 1:
        if is_gemma:
            # The stored weight is the factor less one, and GGUF stores the sum. In [-1, -0.5] and
            # [2, 3] the sum is exact in f32, so that a conversion can return the same bits.
            is_large = name.endswith(("k_norm.weight", "model.norm.weight")) or ".post_" in name
            return (2.5, 0.49) if is_large else (-0.65, 0.15)
        return (1.6, 0.5) if name.endswith(("q_norm.weight", "k_norm.weight")) else (1.0, 0.4)
    if "embeddings." in name or ("embed_tokens" in name and not config.get("tie_word_embeddings")):
        return 0.0, 1.0
    if "embed_tokens" in name or "lm_head" in name:
        return 0.0, 0.15 if is_gemma else 0.4
    gain = 1.5 if any(part in name for part in ("q_proj", "k_proj", "qkv", "query", "key")) else 1.0
    if is_gemma:
        gain *= 2.5  # the inputs left their norm at about a third
    return 0.0, round(gain * math.sqrt(3 / shape[-1]), 4)


def tokens_of(name: str, count: int) -> list[int]:
    drawn = finalise(numpy.uint64(name_hash("tokens " + name)) + numpy.arange(count, dtype=numpy.uint64))
    return (drawn % numpy.uint64(VOCAB)).astype(int).tolist()


# ---- published spelling --------------------------------------------------------------------------

COMMON_KEYS = ["architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
               "num_attention_heads", "vocab_size", "max_position_embeddings", "initializer_range",
               "use_cache"]
DECODER_KEYS = [*COMMON_KEYS, "num_key_value_heads", "rms_norm_eps", "bos_token_id", "eos_token_id"]
GEMMA_KEYS = [*DECODER_KEYS, "attention_bias", "attention_dropout", "attn_logit_softcapping",
              "final_logit_softcapping", "head_dim", "hidden_activation", "pad_token_id",
              "query_pre_attn_scalar", "sliding_window"]
QWEN_KEYS = [*DECODER_KEYS, "attention_dropout", "hidden_act", "max_window_layers", "sliding_window",
             "tie_word_embeddings", "use_sliding_window"]
PUBLISHED_KEYS = {
    "llama": [*DECODER_KEYS, "attention_bias", "attention_dropout", "hidden_act", "mlp_bias",
              "pretraining_tp", "tie_word_embeddings"],
    "mistral": [*DECODER_KEYS, "hidden_act", "sliding_window", "tie_word_embeddings"],
    "qwen2": QWEN_KEYS,
    "qwen3": [*QWEN_KEYS, "attention_bias", "head_dim"],
    "gemma2": GEMMA_KEYS,
    "gemma3_text": GEMMA_KEYS,
    "phi3": [*DECODER_KEYS, "attention_dropout", "embd_pdrop", "hidden_act",
             "original_max_position_embeddings", "pad_token_id", "resid_pdrop", "sliding_window",
             "tie_word_embeddings"],
    "bert": [*COMMON_KEYS, "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob",
             "layer_norm_eps", "pad_token_id", "type_vocab_size"],
}
PUBLISHED_EXTRA = {
    "mistral": {"transformers_version": "4.34.0.dev0"},
    "qwen2": {"use_mrope": False, "transformers_version": "4.40.1"},
    "qwen3": {"transformers_version": "4.51.0"},
    "gemma2": {"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh",
               "transformers_version": "4.42.4"},
    "gemma3_text": {"cache_implementation": "hybrid", "sliding_window_pattern": 6,
                    "transformers_version": "4.50.0.dev0"},
    "phi3": {"attention_bias": False, "transformers_version": "4.40.2"},
    "bert": {"gradient_checkpointing": False, "position_embedding_type": "absolute",
             "transformers_version": "4.8.2"},
}


def published_rope(config: dict) -> dict:
    """Top-level rope_theta and rope_scaling, as every release before 5 wrote them."""
    parameters = copy.deepcopy(config["rope_parameters"])
    result = {}
    if "full_attention" in parameters:
        result["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        parameters = parameters["full_attention"]
    result["rope_theta"] = parameters.pop("rope_theta")
    if parameters.pop("partial_rotary_factor", 1.0) != 1.0:
        result["partial_rotary_factor"] = 0.75
    kind = parameters.pop("rope_type")
    if kind == "longrope":  # the published length stands at the top level
        parameters.pop("original_max_position_embeddings")
    if kind == "default":
        result["rope_scaling"] = None
    else:  # the key was `type` until llama3 came
        is_new = kind in ("llama3",) or config["model_type"] == "gemma3_text"
        result["rope_scaling"] = {**parameters, "rope_type" if is_new else "type": kind}
    if config["model_type"] in ("mistral", "gemma2", "qwen2") and result["rope_scaling"] is None:
        del result["rope_scaling"]  # these never had the key
    return result


def published(config: dict, given: dict) -> dict:
    kind = config["model_type"]
    result = {key: config[key] for key in PUBLISHED_KEYS[kind] if key in config}
    result |= {"torch_dtype": "float32", **PUBLISHED_EXTRA.get(kind, {})}
    result.setdefault("transformers_version", "4.45.0.dev0" if "llama3" in str(config) else "4.31.0")
    if "head_dim" in given:
        result["head_dim"] = given["head_dim"]
    if kind in ("qwen2", "qwen3"):  # saving turns an unused window into null; these files keep it
        result["sliding_window"] = given.get("sliding_window")
    if kind != "bert":
        result |= published_rope(config)
    return dict(sorted(result.items()))


# ---- computation ---------------------------------------------------------------------------------


def load_model(config: dict, weights: dict):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        save_file(weights, pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})
        kind = transformers.AutoModel if config["model_type"] == "bert" else transformers.AutoModelForCausalLM
        model, info = kind.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        return model.eval()


def compute(model, tokens, token_types=None):
    arguments = {"input_ids": torch.tensor([tokens])}
    if token_types is not None:
        arguments["token_type_ids"] = torch.tensor([token_types])
    with torch.no_grad():
        result = model(**arguments, output_attentions=True)
    output = result.logits if hasattr(result, "logits") else result.last_hidden_state
    return output[0].numpy(), result.attentions


def check_health(name, output, attentions):
    spread = output.std()
    # Entropy of a row's attention against that of a uniform row: 1 is uniform.
    last = torch.stack([layer[0, :, -1] for layer in attentions])
    seen = (last > 0).sum(-1)
    entropy = -(last * last.clamp_min(1e-30).log()).sum(-1) / seen.clamp_min(2).log()
    sharpness = entropy.mean().item()
    assert 0.5 < spread < 6 and 0.1 < sharpness < 0.97, (name, spread, sharpness)
    return f"std {spread:.2f}, relative entropy {sharpness:.2f}"


def check_padded_batch(model, sequences, outputs):
    """Sequences of an encoder do not depend on what they share a batch with."""
    longest = max(len(sequence["tokens"]) for sequence in sequences)

    def padded(values):
        return torch.tensor([list(row) + [0] * (longest - len(row)) for row in values])

    with torch.no_grad():
        hidden = model(
            input_ids=padded(sequence["tokens"] for sequence in sequences),
            token_type_ids=padded(sequence["token_types"] for sequence in sequences),
            attention_mask=padded([1] * len(sequence["tokens"]) for sequence in sequences),
        ).last_hidden_state.numpy()
    for row, sequence, output in zip(hidden, sequences, outputs):
        assert abs(row[sequence["rows"]] - output).max() < 1e-5


def check_exact_offsets(weights):
    for name, weight in weights.items():
        if weight.ndim == 1:
            assert numpy.array_equal((weight + numpy.float32(1)) - numpy.float32(1), weight), name


def mutate(config: dict, change: dict) -> dict:
    config = copy.deepcopy(config)
    for dotted, value in change.items():
        *parents, key = dotted.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
    return config


def mutations(name, config, weights, changes):
    """(what, configuration, weights) of every wrong reading."""
    for change in changes:
        yield change, mutate(config, change), weights
    for suffix in IGNORED_TENSORS.get(name, []):
        changed = dict(weights)
        for key in weights:
            if key.endswith(suffix):
                # A missing bias adds nothing, a missing norm would multiply by one.
                changed[key] = (numpy.ones_like if "norm.weight" in key else numpy.zeros_like)(weights[key])
        assert any(changed[key] is not weights[key] for key in weights), suffix
        yield suffix, config, changed


def sequences_of(name: str, kind: str) -> list[dict]:
    if kind != "bert":
        return [{"tokens": tokens_of(name, SEQ_LEN), "rows": ROWS}]
    result = []
    for length in (41, 9):
        tokens = tokens_of(f"{name} {length}", length)
        types = [0] * length  # adze embeds single texts, which are of the first type
        result.append({"tokens": tokens, "token_types": types, "rows": sorted({0, 1, 5, 8, length - 1})})
    return result


def saved_form(kind: str, settings: dict) -> tuple[dict, list[dict]]:
    """(config.json, tensors with name and shape) as save_pretrained writes them."""
    config = transformers.AutoConfig.for_model(kind, **copy.deepcopy(settings))
    if kind == "bert":
        model = transformers.AutoModel.from_config(config)
    else:
        model = transformers.AutoModelForCausalLM.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = json.loads((pathlib.Path(folder) / "config.json").read_text())
        with safe_open(pathlib.Path(folder) / "model.safetensors", "numpy") as file:
            tensors = [{"name": key, "shape": list(file.get_slice(key).get_shape())} for key in file.keys()]
    return saved, sorted(tensors, key=lambda tensor: tensor["name"])


def write_json(path: pathlib.Path, value: dict):
    text = json.dumps(value, indent=2)
    if path.name == "golden.json":  # a tensor a line
        text = json.dumps(value, separators=(",", ":")).replace('{"name"', '\n{"name"')
    path.write_text(text + "\n")


def make_case(name: str):
    kind, settings, changes = CASES[name]
    config, tensors = saved_form(kind, settings)
    for tensor in tensors:
        tensor["offset"], tensor["scale"] = offset_and_scale(tensor["name"], tensor["shape"], config)
    golden = {"transformers": transformers.__version__, "tensors": tensors}
    weights = golden_weights(golden)
    golden["checksum"] = checksum(weights)
    old_config = published(config, settings)
    model, old_model = load_model(config, weights), load_model(old_config, weights)
    sequences = sequences_of(name, kind)
    outputs, changed_by = [], {}
    for sequence in sequences:
        arguments = (sequence["tokens"], sequence.get("token_types"))
        output, attentions = compute(model, *arguments)
        health = check_health(name, output, attentions)
        assert numpy.array_equal(output, compute(old_model, *arguments)[0]), f"{name}: published differs"
        for spelling in (config, old_config):
            difference = abs(forward(spelling, weights, *arguments) - output).max()
            assert difference < REFERENCE_BOUND, (name, difference)
        print(f"{name}: {health}, float64 reference within {difference:.1e}", flush=True)
        for what, wrong_config, wrong_weights in mutations(name, config, weights, changes):
            wrong = forward(wrong_config, wrong_weights, *arguments)
            rows = abs(wrong - output)[sequence["rows"]]
            changed_by[str(what)] = max(changed_by.get(str(what), 0), rows.max())
        outputs.append(output[sequence["rows"]])
    for what, difference in changed_by.items():
        print(f"    {what} moves an output by {difference:.2g}")
        # The two forms of GELU differ by 5e-4 at most: only the tighter bound sees it.
        bound = GELU_BOUND if "gelu" in what else MUTATION_BOUND
        assert difference > bound, (name, what, difference)
    if kind == "bert":
        check_padded_batch(model, sequences, outputs)
    if kind.startswith("gemma"):
        check_exact_offsets(weights)
    golden |= sequences[0] if len(sequences) == 1 else {"sequences": sequences}
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", config)
    write_json(folder / "config_published.json", old_config)
    write_json(folder / "golden.json", golden)
    values = numpy.concatenate(outputs).astype("<f4")
    (folder / ("hidden.bin" if kind == "bert" else "logits.bin")).write_bytes(values.tobytes())


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        make_case(name)


if __name__ == "__main__":
    main()
