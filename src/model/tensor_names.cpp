#include "model/tensor_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/error.h"

namespace adze::model {
namespace {

struct NamePair {
  std::string_view gguf;
  std::string_view hf;
};

// Stems: ".weight" and ".bias" are appended, block stems stand after "blk.N." and the layer prefix.
constexpr std::array kDecoderNames = {NamePair{"token_embd", "model.embed_tokens"},
                                      NamePair{"output_norm", "model.norm"},
                                      NamePair{"output", "lm_head"}};
constexpr std::array kDecoderBlock = {NamePair{"attn_norm", "input_layernorm"},
                                      NamePair{"attn_kv_norm", "key_value_layernorm"},
                                      NamePair{"attn_output", "self_attn.o_proj"},
                                      NamePair{"ffn_down", "mlp.down_proj"}};
constexpr std::array kProjections = {NamePair{"attn_q", "self_attn.q_proj"},
                                     NamePair{"attn_k", "self_attn.k_proj"},
                                     NamePair{"attn_v", "self_attn.v_proj"},
                                     NamePair{"attn_q_norm", "self_attn.q_norm"},
                                     NamePair{"attn_k_norm", "self_attn.k_norm"},
                                     NamePair{"ffn_gate", "mlp.gate_proj"},
                                     NamePair{"ffn_up", "mlp.up_proj"}};
constexpr std::array kFusedProjections = {NamePair{"attn_qkv", "self_attn.qkv_proj"},
                                          NamePair{"attn_q", "self_attn.q_proj"},
                                          NamePair{"ffn_up", "mlp.gate_up_proj"}};
constexpr std::array kNorms = {NamePair{"ffn_norm", "post_attention_layernorm"}};
constexpr std::array kNormsWithBranches = {
    NamePair{"post_attention_norm", "post_attention_layernorm"},
    NamePair{"ffn_norm", "pre_feedforward_layernorm"},
    NamePair{"post_ffw_norm", "post_feedforward_layernorm"}};
constexpr std::array kEncoderNames = {NamePair{"token_embd", "embeddings.word_embeddings"},
                                      NamePair{"position_embd", "embeddings.position_embeddings"},
                                      NamePair{"token_types", "embeddings.token_type_embeddings"},
                                      NamePair{"token_embd_norm", "embeddings.LayerNorm"},
                                      NamePair{"cls", "pooler.dense"}};
constexpr std::array kEncoderBlock = {NamePair{"attn_q", "attention.self.query"},
                                      NamePair{"attn_k", "attention.self.key"},
                                      NamePair{"attn_v", "attention.self.value"},
                                      NamePair{"attn_output", "attention.output.dense"},
                                      NamePair{"attn_output_norm", "attention.output.LayerNorm"},
                                      NamePair{"ffn_up", "intermediate.dense"},
                                      NamePair{"ffn_down", "output.dense"},
                                      NamePair{"layer_output_norm", "output.LayerNorm"}};

constexpr std::string_view kGgufBlock = "blk.";

struct NameTable {
  std::vector<NamePair> names;
  std::vector<NamePair> block;
  std::string_view layer_prefix;  // before the layer's number
};

NameTable table(const Architecture& architecture) {
  if (architecture.name == "bert") {
    return {{kEncoderNames.begin(), kEncoderNames.end()},
            {kEncoderBlock.begin(), kEncoderBlock.end()},
            "encoder.layer."};
  }
  std::vector<NamePair> block(kDecoderBlock.begin(), kDecoderBlock.end());
  const auto add = [&](const auto& pairs) {
    block.insert(block.end(), pairs.begin(), pairs.end());
  };
  if (architecture.fused_projections) {
    add(kFusedProjections);
  } else {
    add(kProjections);
  }
  if (architecture.branch_norms) {
    add(kNormsWithBranches);
  } else {
    add(kNorms);
  }
  return {{kDecoderNames.begin(), kDecoderNames.end()}, std::move(block), "model.layers."};
}

// "blk.12.attn_q.weight" -> prefix "blk." : number "12", stem "attn_q", suffix ".weight". Numbers
// are plain decimals without leading zeros.
struct Parts {
  std::string_view number;  // empty: not a layer's
  std::string_view stem;
  std::string_view suffix;
};

std::optional<Parts> split(std::string_view name, std::string_view prefix) {
  Parts parts;
  if (name.starts_with(prefix)) {
    name.remove_prefix(prefix.size());
    const size_t dot = name.find('.');
    if (dot == std::string_view::npos || dot == 0 || dot > 5 ||
        !std::all_of(name.begin(), name.begin() + static_cast<std::ptrdiff_t>(dot), [](char c) {
          return c >= '0' && c <= '9';
        })) {
      return std::nullopt;
    }
    parts.number = name.substr(0, dot);
    name.remove_prefix(dot + 1);
  }
  const size_t last = name.rfind('.');
  if (last == std::string_view::npos) {
    return std::nullopt;
  }
  parts.suffix = name.substr(last);
  parts.stem = name.substr(0, last);
  if (parts.suffix != ".weight" && parts.suffix != ".bias") {
    return std::nullopt;
  }
  return parts;
}

std::optional<std::string> rename(std::string_view name,
                                  const NameTable& names,
                                  std::string_view from_prefix,
                                  std::string_view to_prefix,
                                  std::string_view NamePair::*from,
                                  std::string_view NamePair::*to) {
  const auto parts = split(name, from_prefix);
  if (!parts) {
    return std::nullopt;
  }
  for (const NamePair& pair : parts->number.empty() ? names.names : names.block) {
    if (pair.*from == parts->stem) {
      return parts->number.empty()
                 ? fmt::format("{}{}", pair.*to, parts->suffix)
                 : fmt::format("{}{}.{}{}", to_prefix, parts->number, pair.*to, parts->suffix);
    }
  }
  return std::nullopt;
}

// Classes with more than the language model put a prefix before its names.
std::string without_prefix(const Architecture& architecture, std::string_view name) {
  if (architecture.name == "bert") {
    return std::string(name.starts_with("bert.") ? name.substr(5) : name);
  }
  for (const std::string_view prefix : {"model.language_model.", "language_model.model."}) {
    if (name.starts_with(prefix)) {
      return "model." + std::string(name.substr(prefix.size()));
    }
  }
  constexpr std::string_view kHead = "language_model.lm_head.";
  return std::string(name.starts_with(kHead) ? name.substr(kHead.find("lm_head")) : name);
}

class List {
 public:
  explicit List(std::vector<ExpectedTensor>& target) : target_(target) {}

  void begin_layer(int64_t layer) {
    layer_ = layer;
    prefix_ = fmt::format("blk.{}.", layer);
  }
  void end_layers() {
    layer_ = -1;
    prefix_.clear();
  }
  void matrix(const char* stem, int64_t outputs, int64_t columns, bool bias = false) {
    target_.push_back({prefix_ + stem + ".weight", {outputs, columns}, layer_});
    if (bias) {
      target_.push_back({prefix_ + stem + ".bias", {outputs}, layer_});
    }
  }
  void norm(const char* stem, int64_t columns, bool bias) {
    target_.push_back({prefix_ + stem + ".weight", {columns}, layer_});
    if (bias) {
      target_.push_back({prefix_ + stem + ".bias", {columns}, layer_});
    }
  }

 private:
  std::vector<ExpectedTensor>& target_;
  int64_t layer_ = -1;
  std::string prefix_;
};

void list_layer(const ModelSpec& spec, const Architecture& entry, int64_t index, List& list) {
  const bool layer_norm = spec.norm == NormKind::kLayer;
  const int64_t query_width = spec.heads * spec.head_dim;
  const bool owner = spec.owns_kv(index);
  list.begin_layer(index);
  if (!spec.residual_is_normed) {
    list.norm("attn_norm", spec.hidden_size, layer_norm);
  }
  if (owner && spec.key_value_norm) {
    list.norm("attn_kv_norm", spec.hidden_size, layer_norm);
  }
  if (entry.fused_projections && owner) {
    list.matrix(
        "attn_qkv", query_width + 2 * spec.kv_width(), spec.hidden_size, spec.query_key_value_bias);
  } else {
    list.matrix("attn_q", query_width, spec.hidden_size, spec.query_key_value_bias);
    if (owner) {
      list.matrix("attn_k", spec.kv_width(), spec.hidden_size, spec.query_key_value_bias);
      list.matrix("attn_v", spec.kv_width(), spec.hidden_size, spec.query_key_value_bias);
    }
  }
  if (spec.query_key_norm) {
    list.norm("attn_q_norm", spec.head_dim, layer_norm);
    if (owner) {
      list.norm("attn_k_norm", spec.head_dim, layer_norm);
    }
  }
  list.matrix("attn_output", spec.hidden_size, query_width, spec.attention_output_bias);
  if (spec.branch_norms) {
    list.norm("post_attention_norm", spec.hidden_size, layer_norm);
  }
  list.norm(
      spec.residual_is_normed ? "attn_output_norm" : "ffn_norm", spec.hidden_size, layer_norm);
  if (entry.fused_projections) {
    list.matrix("ffn_up", 2 * spec.intermediate_size, spec.hidden_size, spec.feed_forward_bias);
  } else {
    if (spec.gated) {
      list.matrix("ffn_gate", spec.intermediate_size, spec.hidden_size, spec.feed_forward_bias);
    }
    list.matrix("ffn_up", spec.intermediate_size, spec.hidden_size, spec.feed_forward_bias);
  }
  list.matrix("ffn_down", spec.hidden_size, spec.intermediate_size, spec.feed_forward_bias);
  if (spec.branch_norms) {
    list.norm("post_ffw_norm", spec.hidden_size, layer_norm);
  }
  if (spec.residual_is_normed) {
    list.norm("layer_output_norm", spec.hidden_size, layer_norm);
  }
}

}  // namespace

std::vector<ExpectedTensor> expected_tensors(const ModelSpec& spec) {
  const Architecture& entry = architecture(spec.architecture);
  std::vector<ExpectedTensor> tensors;
  List list(tensors);
  list.matrix("token_embd", spec.vocab_size, spec.hidden_size);
  if (spec.learned_positions > 0) {
    list.matrix("position_embd", spec.learned_positions, spec.hidden_size);
  }
  if (spec.token_types > 0) {
    list.matrix("token_types", spec.token_types, spec.hidden_size);
  }
  if (spec.residual_is_normed) {
    list.norm("token_embd_norm", spec.hidden_size, spec.norm == NormKind::kLayer);
  }
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    list_layer(spec, entry, layer, list);
  }
  list.end_layers();
  if (!spec.residual_is_normed) {
    list.norm("output_norm", spec.hidden_size, spec.norm == NormKind::kLayer);
  }
  if (spec.causal && !spec.tied_output) {
    list.matrix("output", spec.vocab_size, spec.hidden_size);
  }
  return tensors;
}

std::optional<std::string> hf_name(const Architecture& architecture, std::string_view gguf_name) {
  const NameTable names = table(architecture);
  return rename(gguf_name, names, kGgufBlock, names.layer_prefix, &NamePair::gguf, &NamePair::hf);
}

std::optional<std::string> gguf_name(const Architecture& architecture, std::string_view hf_name) {
  const NameTable names = table(architecture);
  return rename(without_prefix(architecture, hf_name),
                names,
                names.layer_prefix,
                kGgufBlock,
                &NamePair::hf,
                &NamePair::gguf);
}

bool is_ignorable(const Architecture& architecture, std::string_view hf_name) {
  if (hf_name.ends_with(".rotary_emb.inv_freq")) {
    return true;
  }
  if (architecture.name == "bert") {
    return hf_name.starts_with("cls.") || hf_name.ends_with(".position_ids");
  }
  for (const std::string_view prefix : {"vision_tower.",
                                        "multi_modal_projector.",
                                        "model.vision_tower.",
                                        "model.multi_modal_projector."}) {
    if (architecture.name == "gemma3" && hf_name.starts_with(prefix)) {
      return true;
    }
  }
  return false;
}

bool is_pooler(std::string_view gguf_name) {
  return gguf_name == "cls.weight" || gguf_name == "cls.bias";
}

bool is_norm_weight(std::string_view gguf_name) {
  return gguf_name.ends_with("_norm.weight");
}

}  // namespace adze::model
