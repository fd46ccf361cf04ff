#include "tensor/leaf.h"

#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "tensor/recording.h"

namespace adze::tensor {
namespace {

at::Tensor piece(const at::Tensor& buffer, int64_t offset, std::span<const int64_t> shape) {
  return at::from_blob(
      buffer.mutable_data_ptr<float>() + offset,
      at::IntArrayRef(shape.data(), shape.size()),
      [buffer](void*) {},
      at::kFloat);
}

}  // namespace

at::Tensor zero_floats(int64_t count) {
  return at::zeros({count}, at::kFloat);
}

at::Tensor make_leaf(const at::Tensor& values,
                     const at::Tensor& gradients,
                     int64_t offset,
                     std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    count *= size;
  }
  core::check(offset + count <= values.numel() && values.numel() == gradients.numel(),
              "a piece of both buffers");
  at::Tensor leaf = piece(values, offset, shape);
  leaf.requires_grad_(true);
  leaf.mutable_grad() = piece(gradients, offset, shape);
  return leaf;
}

WithoutGradients::WithoutGradients() : before_(at::GradMode::is_enabled()) {
  at::GradMode::set_enabled(false);
}
WithoutGradients::~WithoutGradients() {
  at::GradMode::set_enabled(before_);
}

at::Tensor told_of_backward(const at::Tensor& x, std::function<void()> function) {
  if (!is_recorded({x})) {
    return x;
  }
  at::Tensor same = x.detach();
  record({same}, {x}, [function = std::move(function)](const std::vector<at::Tensor>& gradients) {
    function();
    return gradients;
  });
  return same;
}

void backward(const at::Tensor& loss) {
  loss.backward();
}

}  // namespace adze::tensor
