#pragma once
// Element types of stored tensors, numbered as in GGUF. A type stores rows in blocks of
// `block_elements` consecutive values.

#include <cstdint>
#include <optional>
#include <string_view>

namespace adze::core {

enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

struct TensorTypeInfo {
  TensorType type;
  std::string_view name;   // as llama.cpp spells it, lower case: "q4_1"
  int64_t block_elements;  // values a block
  int64_t block_bytes;
};

const TensorTypeInfo& info(TensorType type);                 // type: one of the enumerators
std::optional<TensorType> tensor_type_from_id(uint32_t id);  // GGUF number; unknown: nullopt
std::optional<TensorType> tensor_type_from_name(std::string_view name);

// Bytes of a row of `columns` values; columns must be a multiple of block_elements.
inline int64_t row_bytes(TensorType type, int64_t columns) {
  return columns / info(type).block_elements * info(type).block_bytes;
}

}  // namespace adze::core
