#include "model/model_spec.h"

#include "core/error.h"

namespace adze::model {
namespace {

void require(bool holds, std::string_view field, int64_t value, std::string_view legal) {
  if (!holds) {
    throw core::error("model", "{}: expected {}, got {}", field, legal, value);
  }
}

}  // namespace

std::vector<int64_t> ModelSpec::owning_layers() const {
  std::vector<int64_t> owners;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (kv_source[static_cast<size_t>(layer)] == layer) {
      owners.push_back(layer);
    }
  }
  return owners;
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
  if (!(rms_norm_epsilon > 0 && rms_norm_epsilon < 1)) {
    throw core::error(
        "model", "rms_norm_epsilon: expected a value in (0, 1), got {}", rms_norm_epsilon);
  }
  if (!(rope_base >= 1 && rope_base <= 1e12)) {
    throw core::error("model", "rope_base: expected 1 to 1e12, got {}", rope_base);
  }
  require(static_cast<int64_t>(kv_source.size()) == num_layers,
          "kv_source entries",
          static_cast<int64_t>(kv_source.size()),
          "one a layer");
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    const int64_t source = kv_source[static_cast<size_t>(layer)];
    require(source >= 0 && source <= layer && kv_source[static_cast<size_t>(source)] == source,
            "kv_source",
            source,
            "an owning layer at or before its reader");
  }
}

}  // namespace adze::model
