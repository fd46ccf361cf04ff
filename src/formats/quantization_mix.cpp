#include "formats/quantization_mix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "formats/quantize.h"

namespace adze::formats {
namespace {

using core::TensorType;

constexpr std::array<QuantizationMix, 16> kMixes = {{
    {"f32", 0, TensorType::kF32, TensorType::kF32, RaisedLayers::kNone},
    {"f16", 1, TensorType::kF16, TensorType::kF16, RaisedLayers::kNone},
    {"bf16", 32, TensorType::kBF16, TensorType::kBF16, RaisedLayers::kNone},
    {"q8_0", 7, TensorType::kQ8_0, TensorType::kQ8_0, RaisedLayers::kNone},
    {"q6_k", 18, TensorType::kQ6_K, TensorType::kQ6_K, RaisedLayers::kNone},
    {"q5_k_m", 17, TensorType::kQ5_K, TensorType::kQ6_K, RaisedLayers::kHalf},
    {"q5_1", 9, TensorType::kQ5_1, TensorType::kQ5_1, RaisedLayers::kNone},
    {"q5_0", 8, TensorType::kQ5_0, TensorType::kQ5_0, RaisedLayers::kNone},
    {"q4_k_m", 15, TensorType::kQ4_K, TensorType::kQ6_K, RaisedLayers::kHalf},
    {"q4_k_s", 14, TensorType::kQ4_K, TensorType::kQ5_K, RaisedLayers::kFirstEighth},
    {"q4_1", 3, TensorType::kQ4_1, TensorType::kQ4_1, RaisedLayers::kNone},
    {"q4_0", 2, TensorType::kQ4_0, TensorType::kQ4_0, RaisedLayers::kNone},
    {"iq4_nl", 25, TensorType::kIQ4_NL, TensorType::kQ5_K, RaisedLayers::kFirstEighth},
    {"iq4_xs", 30, TensorType::kIQ4_XS, TensorType::kQ5_K, RaisedLayers::kFirstEighth},
    {"q3_k", 12, TensorType::kQ3_K, TensorType::kQ4_K, RaisedLayers::kHalf},
    {"q2_k", 10, TensorType::kQ2_K, TensorType::kQ3_K, RaisedLayers::kAll},
}};

// The N of "blk.N.".
std::optional<int64_t> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  int64_t layer = 0;
  const char* begin = name.data() + kPrefix.size();
  const auto [end, failure] = std::from_chars(begin, name.data() + name.size(), layer);
  return failure == std::errc() ? std::optional(layer) : std::nullopt;
}

bool is_raised_layer(RaisedLayers raised, int64_t layer, int64_t num_layers) {
  const int64_t eighth = num_layers / 8;
  switch (raised) {
    case RaisedLayers::kNone:
      return false;
    case RaisedLayers::kFirstEighth:
      return layer < eighth;
    case RaisedLayers::kHalf:
      return layer < eighth || layer >= num_layers - eighth || (layer - eighth) % 3 == 2;
    case RaisedLayers::kAll:
      return true;
  }
  return false;
}

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

bool stays_f32(const TensorPlace& tensor) {
  return tensor.shape.size() < 2 || !tensor.name.ends_with(".weight") ||
         contains(tensor.name, "norm") || contains(tensor.name, "ffn_gate_inp") ||
         tensor.name == "position_embd.weight" || tensor.name == "token_types.weight";
}

bool is_output(const TensorPlace& tensor) {
  return tensor.name == "output.weight" ||
         (tensor.tied_output && tensor.name == "token_embd.weight");
}

bool has_at_least_six_bits(TensorType type) {
  const auto& layout = core::info(type);
  return layout.block_bytes * 8 >= layout.block_elements * 6;
}

TensorType wanted_type(const QuantizationMix& mix, const TensorPlace& tensor) {
  if (is_output(tensor)) {
    // q5_1 has six bits with its scale and minimum, but codes of five.
    const bool is_fine = has_at_least_six_bits(mix.type) && mix.type != TensorType::kQ5_1;
    return is_fine ? mix.type : TensorType::kQ6_K;
  }
  const bool matters = contains(tensor.name, ".attn_v.") || contains(tensor.name, ".ffn_down");
  const auto layer = layer_of(tensor.name);
  if (matters && layer && is_raised_layer(mix.raised_layers, *layer, tensor.num_layers)) {
    return mix.raised;
  }
  return mix.type;
}

}  // namespace

std::span<const QuantizationMix> quantization_mixes() {
  return kMixes;
}

const QuantizationMix* find_quantization_mix(std::string_view name) {
  const auto* found =
      std::find_if(kMixes.begin(), kMixes.end(), [&](const auto& mix) { return mix.name == name; });
  return found == kMixes.end() ? nullptr : found;
}

TensorType tensor_type_for(const QuantizationMix& mix, const TensorPlace& tensor) {
  if (stays_f32(tensor)) {
    return TensorType::kF32;
  }
  return fallback_type(wanted_type(mix, tensor), tensor.shape.back());
}

}  // namespace adze::formats
