#pragma once
// Activations of feed-forward networks, plain or gated (Shazeer, arXiv:2002.05202):
// y = activation(gate) * up, or activation(gate) alone.

#include <cstdint>

namespace adze::kernels {

enum class Activation {
  kSilu,     // x / (1 + exp(-x))
  kGelu,     // x Φ(x), Φ the normal distribution: x / 2 (1 + erf(x / sqrt(2)))
  kGeluTanh  // its approximation x / 2 (1 + tanh(sqrt(2 / π) (x + 0.044715 x³)))
};           // both by Hendrycks and Gimpel, arXiv:1606.08415

// gate, up, y [rows, columns], each contiguous; columns a multiple of 16; y may be gate or up; up
// may be null: not gated. Tolerance against the reference, relative to max(|gate|, 1) |up|: 4e-6
// for kSilu, 1e-6 for the others (polynomial exponential). NaN gives NaN. A gate of -infinity gives
// -infinity with kSilu, less than 1e-36 with the others.
void activate(Activation activation,
              const float* gate,
              const float* up,
              int64_t rows,
              int64_t columns,
              float* y);
void activate_reference(Activation activation,
                        const float* gate,
                        const float* up,
                        int64_t rows,
                        int64_t columns,
                        float* y);

// Gradients of gate and up from that of y; up and up_gradient may be null together: not gated. The
// gradients may be written over gate, up or y_gradient. Tolerance against the reference, relative
// to max(|gate|, 1) max(|up|, 1) |y_gradient|: 4e-6. Finite for every finite gate.
void activate_gradient(Activation activation,
                       const float* gate,
                       const float* up,
                       const float* y_gradient,
                       int64_t rows,
                       int64_t columns,
                       float* gate_gradient,
                       float* up_gradient);
void activate_gradient_reference(Activation activation,
                                 const float* gate,
                                 const float* up,
                                 const float* y_gradient,
                                 int64_t rows,
                                 int64_t columns,
                                 float* gate_gradient,
                                 float* up_gradient);

}  // namespace adze::kernels
