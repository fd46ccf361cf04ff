#pragma once
// Root mean square norm (Zhang and Sennrich, arXiv:1910.07467, eq. 4), with the residual addition
// that precedes it in a transformer block.

#include <cstdint>

namespace adze::kernels {

struct RmsNorm {
  const float* x;       // [rows, columns]
  const float* delta;   // [rows, columns] added to x first; may be null
  float* sum;           // [rows, columns] receives x + delta; may be x; ignored without delta
  const float* weight;  // [columns]
  float* y;             // [rows, columns]; may not overlap the others
  int64_t rows;
  int64_t columns;  // a multiple of 16
  float epsilon;
};

// y = v / sqrt(mean(v²) + epsilon) * weight, v = x + delta. Memory bound. Bits of a row depend on
// that row only; tolerance against the reference 2e-6 relative (sums in 16 lanes of f32).
void rms_norm(const RmsNorm& norm);
void rms_norm_reference(const RmsNorm& norm);  // double accumulation

struct RmsNormGradient {
  const float* x;             // [rows, columns] what was normed
  const float* weight;        // [columns]
  const float* y_gradient;    // [rows, columns]
  const float* sum_gradient;  // [rows, columns] what else x has to take in; may be null
  float* x_gradient;          // [rows, columns] overwritten; may be y_gradient
  float* weight_gradient;     // [columns] added to; may be null
  int64_t rows;
  int64_t columns;  // a multiple of 16
  float epsilon;
};

// With r = 1 / sqrt(mean(x²) + epsilon) and g = y_gradient * weight:
//   x_gradient = r g - r³ x mean(g x) + sum_gradient;  weight_gradient += sum over rows of
//   r x y_gradient, in blocks of 64 rows and in order, so that bits do not depend on threads.
void rms_norm_gradient(const RmsNormGradient& norm);
void rms_norm_gradient_reference(const RmsNormGradient& norm);  // double accumulation

}  // namespace adze::kernels
