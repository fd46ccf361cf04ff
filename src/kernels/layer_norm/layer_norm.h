#pragma once
// Layer norm (Ba et al., arXiv:1607.06450, eq. 4), with the residual addition that precedes it in a
// transformer block.

#include <cstdint>

namespace adze::kernels {

struct LayerNorm {
  const float* x;       // [rows, columns]
  const float* delta;   // [rows, columns] added to x first; may be null
  float* sum;           // [rows, columns] receives x + delta; may be x; ignored without delta
  const float* weight;  // [columns]
  const float* bias;    // [columns]; may be null
  float* y;             // [rows, columns]; may be x, delta or sum, which then hold only y
  int64_t rows;
  int64_t columns;  // a multiple of 16
  float epsilon;
};

// y = (v - mean(v)) / sqrt(mean((v - mean(v))²) + epsilon) * weight + bias, v = x + delta. Memory
// bound. Bits of a row depend on that row only. The mean and the variance are those of v less its
// rounded mean (the corrected two-pass algorithm of Chan, Golub and LeVeque, "Algorithms for
// computing the sample variance", 1983), so a large common offset costs no digits: tolerance
// against the reference 4e-6 of max(|y|, 1) for |weight| and |bias| up to 1 (sums in 16 lanes of
// f32).
void layer_norm(const LayerNorm& norm);
void layer_norm_reference(const LayerNorm& norm);  // double accumulation

}  // namespace adze::kernels
