#include "model/architectures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/error.h"

namespace adze::model {
namespace {

constexpr std::array kArchitectures = {
    Architecture{.name = "llama",
                 .gguf = "llama",
                 .model_type = "llama",
                 .model_class = "LlamaForCausalLM",
                 .alternating_rotary_rows = true},
    Architecture{.name = "mistral",
                 .gguf = "llama",
                 .model_type = "mistral",
                 .model_class = "MistralForCausalLM",
                 .alternating_rotary_rows = true},
    Architecture{
        .name = "qwen2", .gguf = "qwen2", .model_type = "qwen2", .model_class = "Qwen2ForCausalLM"},
    Architecture{
        .name = "qwen3", .gguf = "qwen3", .model_type = "qwen3", .model_class = "Qwen3ForCausalLM"},
    Architecture{.name = "gemma2",
                 .gguf = "gemma2",
                 .model_type = "gemma2",
                 .model_class = "Gemma2ForCausalLM",
                 .norms_add_one = true,
                 .branch_norms = true},
    Architecture{.name = "gemma3",
                 .gguf = "gemma3",
                 .model_type = "gemma3_text",
                 .model_class = "Gemma3ForCausalLM",
                 .norms_add_one = true,
                 .branch_norms = true},
    Architecture{.name = "phi3",
                 .gguf = "phi3",
                 .model_type = "phi3",
                 .model_class = "Phi3ForCausalLM",
                 .fused_projections = true},
    Architecture{.name = "bert", .gguf = "bert", .model_type = "bert", .model_class = "BertModel"},
};

}  // namespace

std::span<const Architecture> architectures() {
  return kArchitectures;
}

std::string architecture_names() {
  std::vector<std::string_view> names;
  for (const Architecture& entry : kArchitectures) {
    names.push_back(entry.name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

const Architecture& architecture(std::string_view name) {
  const auto found = std::find_if(kArchitectures.begin(),
                                  kArchitectures.end(),
                                  [&](const Architecture& entry) { return entry.name == name; });
  if (found == kArchitectures.end()) {
    throw core::error(
        "model", "architecture: expected one of {}, got {}", architecture_names(), name);
  }
  return *found;
}

void set_architecture_constants(ModelSpec& spec) {
  const std::string_view name = spec.architecture;
  spec.branch_norms = architecture(name).branch_norms;
  if (name == "qwen2") {
    spec.query_key_value_bias = true;
  }
  if (name == "qwen3" || name == "gemma3") {
    spec.query_key_norm = true;
  }
  if (name == "gemma2" || name == "gemma3") {
    spec.activation = kernels::Activation::kGeluTanh;
    spec.embedding_scale = std::sqrt(static_cast<double>(spec.hidden_size));
  }
  if (name == "bert") {
    spec.norm = NormKind::kLayer;
    spec.residual_is_normed = true;
    spec.query_key_value_bias = true;
    spec.attention_output_bias = true;
    spec.feed_forward_bias = true;
    spec.activation = kernels::Activation::kGelu;
    spec.gated = false;
    spec.causal = false;
  }
}

bool is_local_layer(std::string_view architecture, int64_t index) {
  if (architecture == "gemma2") {
    return index % 2 == 0;
  }
  if (architecture == "gemma3") {
    return index % 6 != 5;
  }
  return true;
}

}  // namespace adze::model
