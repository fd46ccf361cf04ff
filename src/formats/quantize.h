#pragma once
// f32 -> stored rows, each value rounded to the nearest code. The reference for `convert` and for
// tests; no search over scales, no importance weights.
//
// Largest error of one value after a round trip through dequantize_row. d is the block's scale
// before it is stored in half precision, e what that storing changes in it (2^-11 relative, or
// 2^-25 where |d| < 2^-14), f the same for the minimum; M is the largest magnitude and R the range
// of the block:
//   f32          0
//   f16, bf16    half a unit in the last place: 2^-11, 2^-8 relative; f16 2^-25 at least
//   q8_0         |d|/2 + 127 e         d = M/127
//   q4_0         |d| + 8 e             d = M/8; the side opposite to the extreme lacks a code
//   q5_0         |d| + 16 e            d = M/16
//   q4_1         |d|/2 + 15 e + f      d = R/15
//   q5_1         |d|/2 + 31 e + f      d = R/31
//   q6_k         m/32 + 32 (|d| + e)   d = M/4096; m: largest magnitude in the group of 16
// each plus the rounding of the f32 arithmetic, 2^-20 (M + R).

#include <cstddef>
#include <cstdint>

#include "core/tensor_type.h"

namespace adze::formats {

// f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q6_k.
bool can_quantize(core::TensorType type);

// input [columns]; row: core::row_bytes(type, columns) bytes, any alignment. columns must be a
// multiple of the type's block_elements. Throws core::Error, naming the column, for a value that is
// not finite or a block too large for a half-precision scale (the plain float types take both).
void quantize_row(core::TensorType type, const float* input, int64_t columns, std::byte* row);

}  // namespace adze::formats
