#pragma once
// Operations of the forward pass over rows. Inputs are f32, contiguous, on the CPU; without a
// gradient they go straight to the kernel of the same name.

#include <cstdint>
#include <span>

#include "kernels/activation/activation.h"
#include "tensor/aten.h"

namespace adze::tensor {

at::Tensor empty_floats(int64_t rows, int64_t columns);     // [rows, columns], uninitialised
at::Tensor from_integers(std::span<const int64_t> values);  // [values.size()] int64

struct NormOptions {
  bool layer_norm = false;  // subtract the mean and add a bias; else the root mean square alone
  double epsilon = 1e-5;
};
// x [rows, columns] normed by weight [columns], and bias [columns] for a layer norm. Rows of x may
// be longer than the weight by a whole factor: then each part is normed (heads).
at::Tensor norm(const at::Tensor& x,
                const at::Tensor& weight,
                const at::Tensor& bias,
                const NormOptions& options);
// residual += delta, in place; returns the normed residual.
at::Tensor add_norm(const at::Tensor& residual,
                    const at::Tensor& delta,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    const NormOptions& options);

// act(gate) * up, or act(gate) where up is undefined. Writes over gate and returns it; all
// [rows, columns].
at::Tensor activate(kernels::Activation activation, const at::Tensor& gate, const at::Tensor& up);

// In place: x * factor; cap * tanh(x / cap).
void scale(const at::Tensor& x, double factor);
void soft_cap(const at::Tensor& x, double cap);
// residual += factor * delta, in place.
void add(const at::Tensor& residual, const at::Tensor& delta, double factor = 1);

at::Tensor take_rows(const at::Tensor& x, std::span<const int64_t> rows);  // [rows.size(), ...]

}  // namespace adze::tensor
