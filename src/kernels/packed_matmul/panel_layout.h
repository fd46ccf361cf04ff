#pragma once
// Bytes of a panel: 16 weight rows side by side, cut into blocks of 32 columns (q6_k: 256).
// "16 x T" is one value a row, the rows being the lanes of a vector.
//
//   f32 f16 bf16   a column: 16 x T
//   q4_0           scale 16 x f16 | nibbles 4 words of 16 x u32
//   q4_1           scale 16 x f16 | minimum 16 x f16 | nibbles 4 words of 16 x u32
//   q8_0           scale 16 x f16 | a column: 16 x i8
//   q6_k           scale 16 x f16 | sub-scales 16 of 16 x i8 | per 32 columns: low nibbles 4 words
//   of
//                  16 x u32, high pairs 2 words of 16 x u32
//
// Nibble j of word w belongs to column 8 w + j; pair j of word w to column 16 w + j.

#include <cstdint>

#include "core/tensor_type.h"

namespace adze::kernels {

constexpr int64_t kBlockColumns = 32;
constexpr int64_t kNibbleBytes = 4 * 64;
constexpr int64_t kPairBytes = 2 * 64;
constexpr int64_t kSuperColumns = 256;
constexpr int64_t kSuperHeaderBytes = 32 + 16 * 16;
constexpr int64_t kSuperBlockBytes = kNibbleBytes + kPairBytes;
constexpr int64_t kSuperBytes = kSuperHeaderBytes + 8 * kSuperBlockBytes;

// Bytes of 16 rows of `columns` values: the same in a panel as in the file.
inline int64_t panel_bytes(core::TensorType type, int64_t columns) {
  return 16 * core::row_bytes(type, columns);
}

}  // namespace adze::kernels
