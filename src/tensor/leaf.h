#pragma once
// Parameters: pieces of one buffer of values, whose gradients are pieces of another.

#include <cstdint>
#include <functional>
#include <span>

#include "tensor/aten.h"

namespace adze::tensor {

at::Tensor zero_floats(int64_t count);  // [count]

// A tensor of `shape` that needs a gradient and aliases values [offset, ...); its .grad aliases the
// same place of `gradients`. It keeps both buffers alive.
at::Tensor make_leaf(const at::Tensor& values,
                     const at::Tensor& gradients,
                     int64_t offset,
                     std::span<const int64_t> shape);

// While it lives, operations on this thread record nothing.
class WithoutGradients {
 public:
  WithoutGradients();
  ~WithoutGradients();
  WithoutGradients(const WithoutGradients&) = delete;
  WithoutGradients& operator=(const WithoutGradients&) = delete;

 private:
  bool before_;
};

// x; the backward pass calls the function when it gets there, before it goes on to what x was
// computed from. Where nothing is recorded the function is dropped.
at::Tensor told_of_backward(const at::Tensor& x, std::function<void()> function);

// Runs what was recorded for the loss, a scalar, backwards; gradients are added to those of leaves.
void backward(const at::Tensor& loss);

}  // namespace adze::tensor
