#pragma once
// The product in Arithmetic::kInt8 (packed_matmul.h).

#include <cstdint>
#include <span>

#include "kernels/packed_matmul/packed_matmul.h"

namespace adze::kernels {

// 32 columns of a row of x, as multiples of a scale.
struct RoundedColumns {
  int32_t quads[8];  // as in panels: byte j of quad q is column quad_column(q, j), signed
  float scale;
  int32_t minus_sums[2];  // of the multiples of the first and of the last 16 columns, negated
  float sums[3];          // scale times the sum of the first, of the last, of all
};

// Of outputs whose type has_int8_products; rows > 0.
void int8_matmul(const float* x,
                 int64_t rows,
                 int64_t columns,
                 std::span<const MatmulOutput> outputs);

}  // namespace adze::kernels
