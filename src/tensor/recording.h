#pragma once
// How an operation that computes on raw pointers becomes part of a gradient's computation. Within
// tensor/ only: this pulls in much of libtorch.

#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "tensor/aten.h"

namespace adze::tensor {

// Whether gradients are being recorded and any of the tensors takes part.
bool is_recorded(std::initializer_list<at::Tensor> inputs);

// Gradients of the outputs (undefined where nothing depends on one) -> gradients of the inputs, in
// the order of record(); undefined where an input needs none, or has added its own to .grad.
using Backward = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

// Makes `outputs`, which were computed without recording, depend on `inputs`. `backward` runs once
// and is destroyed after. NOTE: it may hold inputs, but of an output only output.detach(), or the
// two would keep each other alive.
void record(const std::vector<at::Tensor>& outputs,
            const std::vector<at::Tensor>& inputs,
            Backward backward);

// The gradient as the kernels want it: contiguous f32 of the shape of `like`, zeros if undefined.
at::Tensor whole_gradient(const at::Tensor& gradient, const at::Tensor& like);

// leaf.grad += value where the leaf has one; returns what the leaf's input slot then gets: nothing,
// or the value.
at::Tensor add_to_leaf(const at::Tensor& leaf, const at::Tensor& value);

}  // namespace adze::tensor
