#pragma once
// Operations of the forward pass over rows. Inputs are f32, contiguous, on the CPU; without a
// gradient they go straight to the kernel of the same name.

#include <cstdint>
#include <span>

#include "tensor/aten.h"

namespace adze::tensor {

at::Tensor empty_floats(int64_t rows, int64_t columns);     // [rows, columns], uninitialised
at::Tensor from_integers(std::span<const int64_t> values);  // [values.size()] int64

// [rows, columns] normed by weight [columns].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
// residual += delta, in place; returns the normed residual.
at::Tensor add_rms_norm(const at::Tensor& residual,
                        const at::Tensor& delta,
                        const at::Tensor& weight,
                        double epsilon);
// Writes over gate and returns it; all [rows, columns].
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
at::Tensor take_rows(const at::Tensor& x, std::span<const int64_t> rows);  // [rows.size(), ...]

}  // namespace adze::tensor
