#pragma once
// Updates of parameters by their gradients, over many tensors in one pass.

#include <cstdint>
#include <span>

namespace adze::kernels {

// One tensor of `count` values with its gradient and the two moments that adaptive methods keep.
struct ParameterSpan {
  float* value;
  const float* gradient;
  float* first;   // moment, of the gradient
  float* second;  // moment, of its square
  int64_t count;
  bool decays;  // takes part in weight decay
};

// AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2, without the schedule multiplier in
// the decay's place: as PyTorch has it), step t from 1:
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
//   w = w (1 - learning_rate weight_decay) - learning_rate m̂ / (sqrt(v̂) + epsilon)
// with m̂ = m / (1 - beta1^t), v̂ = v / (1 - beta2^t) and g = gradient * gradient_scale.
struct AdamW {
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  double weight_decay;
  double gradient_scale;
  int64_t step;
};

// Reads 16 bytes and writes 12 a value: memory bound. Every value by itself, so bits do not depend
// on threads. Within 1e-6 of the reference, relative to the step.
void adamw_update(const AdamW& options, std::span<const ParameterSpan> parameters);
void adamw_update_reference(const AdamW& options, std::span<const ParameterSpan> parameters);

// Sum of squares of the values, in double over blocks of fixed size and in order; NaN or infinity
// where a value is.
double sum_of_squares(const float* values, int64_t count);

}  // namespace adze::kernels
