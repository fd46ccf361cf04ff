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
  float half_sums[2];  // scale times the sum of 16 columns' multiples
  float sum;           // ... of all 32
};

// Of outputs whose type has_int8_products; rows > 0.
void int8_matmul(const float* x,
                 int64_t rows,
                 int64_t columns,
                 std::span<const MatmulOutput> outputs);

}  // namespace adze::kernels
