#pragma once
// Operations of the forward pass over rows. Inputs are f32, contiguous, on the CPU, and go straight
// to the kernel of the same name. Where an input needs a gradient nothing is overwritten, and what
// the backward pass needs is kept.

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
// residual += delta, in place where no gradient is wanted; returns the normed residual.
at::Tensor add_norm(at::Tensor& residual,
                    const at::Tensor& delta,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    const NormOptions& options);

// act(gate) * up, or act(gate) where up is undefined. Writes over gate and returns it where no
// gradient is wanted; all [rows, columns].
at::Tensor activate(kernels::Activation activation, const at::Tensor& gate, const at::Tensor& up);

// x becomes x * factor; cap * tanh(x / cap); residual + factor * delta: in place where no gradient
// is wanted, else another tensor.
void scale(at::Tensor& x, double factor);
void soft_cap(at::Tensor& x, double cap);
void add(at::Tensor& residual, const at::Tensor& delta, double factor = 1);

at::Tensor take_rows(const at::Tensor& x, std::span<const int64_t> rows);  // [rows.size(), ...]

}  // namespace adze::tensor
