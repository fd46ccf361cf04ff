#include "tensor/operations.h"

#include <algorithm>

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/activation/activation.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/rms_norm/rms_norm.h"

namespace adze::tensor {
namespace {

void check_rows(const at::Tensor& x, int64_t columns) {
  core::check(
      x.dim() == 2 && x.size(1) == columns, "rows of ", columns, " columns, got dim ", x.dim());
  core::check(x.is_contiguous() && x.scalar_type() == at::kFloat, "contiguous f32 rows");
}

}  // namespace

at::Tensor empty_floats(int64_t rows, int64_t columns) {
  // Straight to the allocator: some 300 of these a token, and the dispatcher costs as much again.
  return at::Tensor(at::detail::empty_cpu({rows, columns}, at::kFloat));
}

at::Tensor from_integers(std::span<const int64_t> values) {
  at::Tensor result = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), result.mutable_data_ptr<int64_t>());
  return result;
}

namespace {

// The kernels' norm of x + delta (delta may be undefined) into a new tensor of x's shape.
at::Tensor norm_rows(const at::Tensor& x,
                     const float* delta,
                     const at::Tensor& weight,
                     const at::Tensor& bias,
                     const NormOptions& options) {
  const int64_t columns = weight.size(0);
  core::check(x.size(1) % columns == 0, "rows of whole parts of ", columns, ", got ", x.size(1));
  check_rows(x, x.size(1));
  at::Tensor y = empty_floats(x.size(0), x.size(1));
  const int64_t rows = x.numel() / columns;
  const auto epsilon = static_cast<float>(options.epsilon);
  const auto* source = x.const_data_ptr<float>();
  auto* sum = delta == nullptr ? nullptr : x.mutable_data_ptr<float>();
  const auto* scale = weight.const_data_ptr<float>();
  auto* target = y.mutable_data_ptr<float>();
  if (options.layer_norm) {
    kernels::layer_norm({.x = source,
                         .delta = delta,
                         .sum = sum,
                         .weight = scale,
                         .bias = bias.const_data_ptr<float>(),
                         .y = target,
                         .rows = rows,
                         .columns = columns,
                         .epsilon = epsilon});
  } else {
    kernels::rms_norm({.x = source,
                       .delta = delta,
                       .sum = sum,
                       .weight = scale,
                       .y = target,
                       .rows = rows,
                       .columns = columns,
                       .epsilon = epsilon});
  }
  return y;
}

}  // namespace

at::Tensor norm(const at::Tensor& x,
                const at::Tensor& weight,
                const at::Tensor& bias,
                const NormOptions& options) {
  return norm_rows(x, nullptr, weight, bias, options);
}

at::Tensor add_norm(const at::Tensor& residual,
                    const at::Tensor& delta,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    const NormOptions& options) {
  check_rows(delta, residual.size(1));
  return norm_rows(residual, delta.const_data_ptr<float>(), weight, bias, options);
}

at::Tensor activate(kernels::Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  check_rows(gate, gate.size(1));
  auto* y = gate.mutable_data_ptr<float>();
  if (up.defined()) {
    check_rows(up, gate.size(1));
  }
  kernels::activate(activation,
                    y,
                    up.defined() ? up.const_data_ptr<float>() : nullptr,
                    gate.size(0),
                    gate.size(1),
                    y);
  return gate;
}

void scale(const at::Tensor& x, double factor) {
  auto* y = x.mutable_data_ptr<float>();
  const auto single = static_cast<float>(factor);
  std::transform(y, y + x.numel(), y, [single](float value) { return value * single; });
}

void soft_cap(const at::Tensor& x, double cap) {
  // Element by element in vectors: the bits do not depend on the number of rows.
  x.div_(cap).tanh_().mul_(cap);
}

void add(const at::Tensor& residual, const at::Tensor& delta, double factor) {
  constexpr int64_t kGrain = 65536;  // values that are worth a thread
  check_rows(delta, residual.size(1));
  auto* y = residual.mutable_data_ptr<float>();
  const auto* x = delta.const_data_ptr<float>();
  const auto single = static_cast<float>(factor);
  core::parallel_for(residual.numel(), kGrain, [&](int64_t begin, int64_t end) {
    std::transform(y + begin, y + end, x + begin, y + begin, [single](float sum, float value) {
      return sum + single * value;
    });
  });
}

at::Tensor take_rows(const at::Tensor& x, std::span<const int64_t> rows) {
  check_rows(x, x.size(1));
  const int64_t columns = x.size(1);
  at::Tensor y = empty_floats(static_cast<int64_t>(rows.size()), columns);
  const float* source = x.const_data_ptr<float>();
  float* target = y.mutable_data_ptr<float>();
  for (const int64_t row : rows) {
    core::check(row >= 0 && row < x.size(0), "row within ", x.size(0), ", got ", row);
    target = std::copy_n(source + row * columns, columns, target);
  }
  return y;
}

}  // namespace adze::tensor
