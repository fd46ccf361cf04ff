#pragma once
// f32 -> stored rows. A pure function of the values: the same bytes on every machine, and rows may
// be encoded by any number of threads. No importance weights.
//
// f16, bf16 and q8_0 round to nearest, as llama.cpp does. The other types search for the scales
// with the least squared error. Bounds of the root mean square error over a block, where M is its
// largest magnitude and R its range, after a round trip through dequantize_row; no value is off by
// more than sqrt(block) times as much:
//   f32          0, exact
//   f16, bf16    every value half a unit in the last place: 2^-11, 2^-8 relative; f16 2^-25 at
//   least q8_0         every value M/254 q4_0, q5_0   M/8, M/16 q4_1, q5_1   R/30, R/62 iq4_nl M/9
//   q2_k q3_k q4_k q5_k q6_k iq4_xs   M/2, M/4, M/10, M/17, M/28, M/7
// each plus 2^-10 M, and plus 2^-24 times the largest product of codes (q8_0 127, q4_0 8, q6_k
// 4096) where scales are so small that half precision has no bits for them.
//
// Typical: root mean square error relative to that of the values, normally distributed
//   q8_0 q6_k   q5_1   q5_k   q5_0   q4_k   q4_1   iq4_nl iq4_xs q4_0   q3_k   q2_k
//   .0054 .0168 .0336  .0345  .0402  .0699  .0699  .0735  .0739  .0808  .143   .262

#include <cstddef>
#include <cstdint>

#include "core/tensor_type.h"

namespace adze::formats {

// input [columns]; row: core::row_bytes(type, columns) bytes, any alignment. columns must be a
// multiple of the type's block_elements. Throws core::Error, naming the column, for a value that is
// not finite or beyond 2^50, or a block too large for a half-precision scale (the plain float types
// take all of them).
void quantize_row(core::TensorType type, const float* input, int64_t columns, std::byte* row);

// The type for rows that are no multiple of the wanted type's block, as llama.cpp chooses it: q2_k,
// q3_k and iq4_xs become iq4_nl, q4_k q5_0, q5_k q5_1, q6_k q8_0; f16 where 32 does not divide the
// columns either.
core::TensorType fallback_type(core::TensorType wanted, int64_t columns);

}  // namespace adze::formats
