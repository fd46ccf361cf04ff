#pragma once
// Which type each tensor of a model gets when a user asks for "q4_k_m": one type for most weights,
// more bits where errors cost most. The names are llama.cpp's, and so is the purpose of each; the
// rules are few:
//   1. One-dimensional tensors (norms, biases), routers (ffn_gate_inp) and tables that are looked
//   up
//      by position stay f32.
//   2. output.weight, or the embedding where it is also the output, gets q6_k at least.
//   3. attn_v and ffn_down, which the residual stream feels most, get the raised type in the layers
//      of the mix: the first eighth; or about half, namely the first and the last eighth and every
//      third between; or all.
//   4. The rest gets the mix's type. Rows that are no multiple of a block fall back
//      (quantize.h: fallback_type).

#include <cstdint>
#include <span>
#include <string_view>

#include "core/tensor_type.h"

namespace adze::formats {

enum class RaisedLayers { kNone, kFirstEighth, kHalf, kAll };

struct QuantizationMix {
  std::string_view name;
  uint32_t file_type;  // the number that GGUF has for it in general.file_type
  core::TensorType type;
  core::TensorType raised;
  RaisedLayers raised_layers;
};

// f32 f16 bf16 q8_0 q6_k q5_k_m q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl iq4_xs q3_k q2_k.
std::span<const QuantizationMix> quantization_mixes();
const QuantizationMix* find_quantization_mix(std::string_view name);  // unknown: nullptr

struct TensorPlace {
  std::string_view name;           // as GGUF has it: "blk.3.attn_v.weight"
  std::span<const int64_t> shape;  // outermost first
  int64_t num_layers;
  bool tied_output;  // the model has no output.weight: the embedding serves
};

core::TensorType tensor_type_for(const QuantizationMix& mix, const TensorPlace& tensor);

}  // namespace adze::formats
