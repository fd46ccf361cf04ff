#include "tensor/recompute.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "tensor/recording.h"

namespace adze::tensor {

Tensors recomputed(const Tensors& inputs, const std::function<Tensors(const Tensors&)>& function) {
  if (!at::GradMode::is_enabled()) {
    return function(inputs);
  }
  // The first part's input may need no gradient; its parameters do.
  Tensors recorded_inputs;
  Tensors copies;
  for (const at::Tensor& input : inputs) {
    const bool bare = input.defined() && !input.requires_grad();
    recorded_inputs.push_back(bare ? input.detach().requires_grad_(true) : input);
    copies.push_back(input.defined() ? input.detach().clone() : at::Tensor());
  }
  Tensors outputs;
  {
    const at::NoGradGuard guard;
    outputs = function(copies);
  }
  copies.clear();
  for (const at::Tensor& input : inputs) {
    copies.push_back(input.defined() ? input.detach() : at::Tensor());
  }
  record(outputs, recorded_inputs, [function, kept = std::move(copies)](const Tensors& gradients) {
    const at::AutoGradMode guard(true);
    Tensors leaves;
    for (const at::Tensor& input : kept) {
      leaves.push_back(input.defined() ? input.detach().requires_grad_(true) : at::Tensor());
    }
    const Tensors again = function(leaves);
    Tensors roots;
    Tensors root_gradients;
    for (size_t i = 0; i < again.size(); ++i) {
      if (gradients[i].defined() && again[i].requires_grad()) {
        roots.push_back(again[i]);
        root_gradients.push_back(gradients[i]);
      }
    }
    torch::autograd::backward(roots, root_gradients);
    Tensors result;
    for (const at::Tensor& leaf : leaves) {
      result.push_back(leaf.defined() ? leaf.grad() : at::Tensor());
    }
    return result;
  });
  return outputs;
}

}  // namespace adze::tensor
