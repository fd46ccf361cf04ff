#include "core/tensor_type.h"

#include <algorithm>
#include <array>

#include "core/check.h"

namespace adze::core {
namespace {

constexpr std::array kTypes = {
    TensorTypeInfo{TensorType::kF32, "f32", 1, 4},
    TensorTypeInfo{TensorType::kF16, "f16", 1, 2},
    TensorTypeInfo{TensorType::kQ4_0, "q4_0", 32, 18},
    TensorTypeInfo{TensorType::kQ4_1, "q4_1", 32, 20},
    TensorTypeInfo{TensorType::kQ5_0, "q5_0", 32, 22},
    TensorTypeInfo{TensorType::kQ5_1, "q5_1", 32, 24},
    TensorTypeInfo{TensorType::kQ8_0, "q8_0", 32, 34},
    TensorTypeInfo{TensorType::kQ2_K, "q2_k", 256, 84},
    TensorTypeInfo{TensorType::kQ3_K, "q3_k", 256, 110},
    TensorTypeInfo{TensorType::kQ4_K, "q4_k", 256, 144},
    TensorTypeInfo{TensorType::kQ5_K, "q5_k", 256, 176},
    TensorTypeInfo{TensorType::kQ6_K, "q6_k", 256, 210},
    TensorTypeInfo{TensorType::kIQ4_NL, "iq4_nl", 32, 18},
    TensorTypeInfo{TensorType::kIQ4_XS, "iq4_xs", 256, 136},
    TensorTypeInfo{TensorType::kBF16, "bf16", 1, 2},
};

}  // namespace

const TensorTypeInfo& info(TensorType type) {
  const auto* found = std::find_if(
      kTypes.begin(), kTypes.end(), [type](const auto& known) { return known.type == type; });
  check(found != kTypes.end(), "tensor type ", static_cast<uint32_t>(type));
  return *found;
}

std::optional<TensorType> tensor_type_from_id(uint32_t id) {
  for (const auto& known : kTypes) {
    if (static_cast<uint32_t>(known.type) == id) {
      return known.type;
    }
  }
  return std::nullopt;
}

std::optional<TensorType> tensor_type_from_name(std::string_view name) {
  for (const auto& known : kTypes) {
    if (known.name == name) {
      return known.type;
    }
  }
  return std::nullopt;
}

}  // namespace adze::core
