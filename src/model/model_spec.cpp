#include "model/model_spec.h"

#include <cmath>
#include <utility>

#include "core/error.h"

namespace adze::model {
namespace {

void require(bool holds, std::string_view field, int64_t value, std::string_view legal) {
  if (!holds) {
    throw core::error("model", "{}: expected {}, got {}", field, legal, value);
  }
}

void require_number(bool holds, std::string_view field, double value, std::string_view legal) {
  if (!holds) {
    throw core::error("model", "{}: expected {}, got {}", field, legal, value);
  }
}

}  // namespace

std::vector<int64_t> ModelSpec::owning_layers() const {
  std::vector<int64_t> owners;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (owns_kv(layer)) {
      owners.push_back(layer);
    }
  }
  return owners;
}

double ModelSpec::score_scale() const {
  return attention_scale > 0 ? attention_scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
}

int64_t ModelSpec::window(int64_t layer) const {
  return windows.empty() ? 0 : windows[static_cast<size_t>(layer)];
}

int64_t ModelSpec::rope_index(int64_t layer) const {
  return rope_of_layer.empty() ? 0 : rope_of_layer[static_cast<size_t>(layer)];
}

void ModelSpec::validate() const {
  // The upper bounds are far above any published model; they keep products of sizes in 64 bits.
  constexpr int64_t kLargest = int64_t{1} << 24;
  require(vocab_size >= 1 && vocab_size <= kLargest, "vocab_size", vocab_size, "1 to 2^24");
  require(num_layers >= 1 && num_layers <= 4096, "num_layers", num_layers, "1 to 4096");
  require(hidden_size >= 32 && hidden_size <= kLargest && hidden_size % 32 == 0,
          "hidden_size",
          hidden_size,
          "a multiple of 32, up to 2^24");
  require(intermediate_size >= 32 && intermediate_size <= kLargest && intermediate_size % 32 == 0,
          "intermediate_size",
          intermediate_size,
          "a multiple of 32, up to 2^24");
  require(heads >= 1 && heads <= 4096, "heads", heads, "1 to 4096");
  require(kv_heads >= 1 && kv_heads <= heads && heads % kv_heads == 0,
          "kv_heads",
          kv_heads,
          "a divisor of heads");
  require(head_dim >= 16 && head_dim <= 4096 && head_dim % 16 == 0,
          "head_dim",
          head_dim,
          "a multiple of 16, up to 4096");
  require(heads * head_dim % 32 == 0, "heads x head_dim", heads * head_dim, "a multiple of 32");
  require(context_length >= 1 && context_length <= (int64_t{1} << 30),
          "context_length",
          context_length,
          "1 to 2^30");
  require_number(norm_epsilon > 0 && norm_epsilon < 1, "norm_epsilon", norm_epsilon, "(0, 1)");
  require_number(attention_scale >= 0 && attention_scale <= 1e3,
                 "attention_scale",
                 attention_scale,
                 "0 to 1000");
  require_number(attention_softcap >= 0 && attention_softcap <= 1e6,
                 "attention_softcap",
                 attention_softcap,
                 "0 to 1e6");
  require_number(
      output_softcap >= 0 && output_softcap <= 1e6, "output_softcap", output_softcap, "0 to 1e6");
  require_number(embedding_scale > 0 && embedding_scale <= 1e6,
                 "embedding_scale",
                 embedding_scale,
                 "above 0, up to 1e6");
  require(learned_positions >= 0 && learned_positions <= kLargest,
          "learned_positions",
          learned_positions,
          "0 to 2^24");
  require(embedded_tokens >= 0 && embedded_tokens <= context_length,
          "embedded_tokens",
          embedded_tokens,
          "0 to context_length");
  require(token_types >= 0 && token_types <= 1024, "token_types", token_types, "0 to 1024");
  validate_layers();
}

void ModelSpec::validate_layers() const {
  require(windows.empty() || std::cmp_equal(windows.size(), num_layers),
          "windows",
          static_cast<int64_t>(windows.size()),
          "one a layer");
  for (const int64_t tokens : windows) {
    require(tokens >= 0 && tokens <= int64_t{1} << 30, "window", tokens, "0 to 2^30");
  }
  for (const Rope& rope : ropes) {
    rope.validate(head_dim);
    // One order of a head's rows serves all layers.
    require(rope.dims == ropes.front().dims, "rope dims", rope.dims, "equal numbers in all layers");
  }
  require(rope_of_layer.empty() || std::cmp_equal(rope_of_layer.size(), num_layers),
          "rope_of_layer",
          static_cast<int64_t>(rope_of_layer.size()),
          "one a layer");
  for (const int64_t index : rope_of_layer) {
    require(index >= 0 && std::cmp_less(index, ropes.size()), "rope_of_layer", index, "a rope");
  }
  require(!(key_value_norm && residual_is_normed),
          "key_value_norm",
          key_value_norm,
          "none where the residual itself is normed");
  validate_kv_source();
}

// [05 §2.7]
void ModelSpec::validate_kv_source() const {
  require(static_cast<int64_t>(kv_source.size()) == num_layers,
          "kv_source entries",
          static_cast<int64_t>(kv_source.size()),
          "one a layer");
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    const int64_t source = kv_source[static_cast<size_t>(layer)];
    if (source < 0 || source > layer || !owns_kv(source)) {
      throw core::error("model",
                        "kv_source of layer {}: expected an owning layer from 0 to {}, got {}",
                        layer,
                        layer,
                        source);
    }
    require(causal || source == layer, "kv_source", source, "every layer's own in an encoder");
    if (window(source) != window(layer)) {
      throw core::error("model",
                        "kv_source of layer {}: expected a layer with the window {}, got layer {} "
                        "with {}",
                        layer,
                        window(layer),
                        source,
                        window(source));
    }
    if (!ropes.empty() && ropes[static_cast<size_t>(rope_index(source))] !=
                              ropes[static_cast<size_t>(rope_index(layer))]) {
      throw core::error("model",
                        "kv_source of layer {}: expected a layer that rotates alike, got layer {}",
                        layer,
                        source);
    }
  }
}

}  // namespace adze::model
