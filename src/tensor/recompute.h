#pragma once
// Activation checkpointing (Chen et al., arXiv:1604.06174): of a part of a computation only the
// inputs are kept; the backward pass computes the rest again.

#include <functional>
#include <vector>

#include "tensor/aten.h"

namespace adze::tensor {

using Tensors = std::vector<at::Tensor>;  // some may be undefined

// function(inputs), with the same bits and gradients as without. The function runs once now and
// once in the backward pass, each time on tensors of its own, which it may overwrite; what it reads
// beside them must still be there then. Without recording: the function itself.
Tensors recomputed(const Tensors& inputs, const std::function<Tensors(const Tensors&)>& function);

}  // namespace adze::tensor
