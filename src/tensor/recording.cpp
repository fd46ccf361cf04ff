#include "tensor/recording.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

namespace adze::tensor {
namespace {

class Recorded : public torch::autograd::Node {
 public:
  explicit Recorded(Backward backward) : backward_(std::move(backward)) {}

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    return backward_(gradients);
  }
  void release_variables() override { backward_ = nullptr; }

 private:
  Backward backward_;
};

}  // namespace

bool is_recorded(std::initializer_list<at::Tensor> inputs) {
  return at::GradMode::is_enabled() &&
         std::any_of(inputs.begin(), inputs.end(), [](const at::Tensor& tensor) {
           return tensor.defined() && tensor.requires_grad();
         });
}

void record(const std::vector<at::Tensor>& outputs,
            const std::vector<at::Tensor>& inputs,
            Backward backward) {
  const std::shared_ptr<torch::autograd::Node> node(new Recorded(std::move(backward)),
                                                    torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  for (const at::Tensor& output : outputs) {
    torch::autograd::set_history(output, node);
  }
}

at::Tensor whole_gradient(const at::Tensor& gradient, const at::Tensor& like) {
  return gradient.defined() ? gradient.contiguous() : at::zeros_like(like);
}

at::Tensor add_to_leaf(const at::Tensor& leaf, const at::Tensor& value) {
  if (!leaf.grad().defined()) {
    return value;
  }
  leaf.mutable_grad().add_(value);
  return {};
}

}  // namespace adze::tensor
