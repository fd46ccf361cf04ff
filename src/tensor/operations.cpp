#include "tensor/operations.h"

#include <algorithm>
#include <vector>

#include <ATen/EmptyTensor.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/zeros_like.h>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/activation/activation.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/rms_norm/rms_norm.h"
#include "tensor/recording.h"

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

// The kernels' norm of x + delta (delta may be null) into a new tensor of x's shape; the sum goes
// to `summed`, which may be x.
at::Tensor norm_rows(const at::Tensor& x,
                     const float* delta,
                     const at::Tensor& summed,
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
  auto* sum = delta == nullptr ? nullptr : summed.mutable_data_ptr<float>();
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

namespace {

// A layer norm is trained by libtorch's own operations: none of our models that write text has one.
at::Tensor recorded_layer_norm(const at::Tensor& x,
                               const at::Tensor& weight,
                               const at::Tensor& bias,
                               const NormOptions& options) {
  return at::layer_norm(x, weight.sizes(), weight, bias, options.epsilon);
}

// Gradient of what was normed; the weight's goes to its .grad, or to `of_weight` where it has none.
at::Tensor rms_norm_gradient(const at::Tensor& x,
                             const at::Tensor& weight,
                             const NormOptions& options,
                             const at::Tensor& y_gradient,
                             const at::Tensor& sum_gradient,
                             at::Tensor& of_weight) {
  const at::Tensor gradient = whole_gradient(y_gradient, x);
  const at::Tensor beside = sum_gradient.defined() ? sum_gradient.contiguous() : at::Tensor();
  at::Tensor of_x = empty_floats(x.size(0), x.size(1));
  at::Tensor target;
  if (weight.requires_grad()) {
    target = weight.grad().defined() ? weight.mutable_grad() : at::zeros_like(weight);
    of_weight = weight.grad().defined() ? at::Tensor() : target;
  }
  kernels::rms_norm_gradient(
      {.x = x.const_data_ptr<float>(),
       .weight = weight.const_data_ptr<float>(),
       .y_gradient = gradient.const_data_ptr<float>(),
       .sum_gradient = beside.defined() ? beside.const_data_ptr<float>() : nullptr,
       .x_gradient = of_x.mutable_data_ptr<float>(),
       .weight_gradient = target.defined() ? target.mutable_data_ptr<float>() : nullptr,
       .rows = x.numel() / weight.size(0),
       .columns = weight.size(0),
       .epsilon = static_cast<float>(options.epsilon)});
  return of_x;
}

}  // namespace

at::Tensor norm(const at::Tensor& x,
                const at::Tensor& weight,
                const at::Tensor& bias,
                const NormOptions& options) {
  const bool recorded = is_recorded({x, weight});
  if (recorded && options.layer_norm) {
    return recorded_layer_norm(x, weight, bias, options);
  }
  at::Tensor y = norm_rows(x, nullptr, {}, weight, bias, options);
  if (recorded) {
    record({y}, {x, weight}, [x, weight, options](const auto& gradients) {
      at::Tensor of_weight;
      at::Tensor of_x = rms_norm_gradient(x, weight, options, gradients[0], {}, of_weight);
      return std::vector{of_x, of_weight};
    });
  }
  return y;
}

at::Tensor add_norm(at::Tensor& residual,
                    const at::Tensor& delta,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    const NormOptions& options) {
  check_rows(delta, residual.size(1));
  const auto* added = delta.const_data_ptr<float>();
  if (!is_recorded({residual, delta, weight})) {
    return norm_rows(residual, added, residual, weight, bias, options);
  }
  if (options.layer_norm) {
    residual = residual + delta;
    return recorded_layer_norm(residual, weight, bias, options);
  }
  at::Tensor sum = empty_floats(residual.size(0), residual.size(1));
  at::Tensor y = norm_rows(residual, added, sum, weight, bias, options);
  record({sum, y},
         {residual, delta, weight},
         [x = sum.detach(), weight, options](const auto& gradients) {
           at::Tensor of_weight;
           at::Tensor of_x =
               rms_norm_gradient(x, weight, options, gradients[1], gradients[0], of_weight);
           return std::vector{of_x, of_x, of_weight};
         });
  residual = sum;
  return y;
}

at::Tensor activate(kernels::Activation activation, const at::Tensor& gate, const at::Tensor& up) {
  check_rows(gate, gate.size(1));
  if (up.defined()) {
    check_rows(up, gate.size(1));
  }
  const bool recorded = is_recorded({gate, up});
  at::Tensor y = recorded ? empty_floats(gate.size(0), gate.size(1)) : gate;
  kernels::activate(activation,
                    gate.const_data_ptr<float>(),
                    up.defined() ? up.const_data_ptr<float>() : nullptr,
                    gate.size(0),
                    gate.size(1),
                    y.mutable_data_ptr<float>());
  if (!recorded) {
    return y;
  }
  std::vector<at::Tensor> inputs = {gate};
  if (up.defined()) {
    inputs.push_back(up);
  }
  record({y}, inputs, [activation, gate, up](const auto& gradients) {
    const at::Tensor gradient = whole_gradient(gradients[0], gate);
    std::vector<at::Tensor> of_inputs = {empty_floats(gate.size(0), gate.size(1))};
    if (up.defined()) {
      of_inputs.push_back(empty_floats(gate.size(0), gate.size(1)));
    }
    kernels::activate_gradient(activation,
                               gate.const_data_ptr<float>(),
                               up.defined() ? up.const_data_ptr<float>() : nullptr,
                               gradient.template const_data_ptr<float>(),
                               gate.size(0),
                               gate.size(1),
                               of_inputs[0].mutable_data_ptr<float>(),
                               up.defined() ? of_inputs[1].mutable_data_ptr<float>() : nullptr);
    return of_inputs;
  });
  return y;
}

void scale(at::Tensor& x, double factor) {
  if (is_recorded({x})) {
    x = x * factor;
    return;
  }
  auto* y = x.mutable_data_ptr<float>();
  const auto single = static_cast<float>(factor);
  std::transform(y, y + x.numel(), y, [single](float value) { return value * single; });
}

void soft_cap(at::Tensor& x, double cap) {
  if (is_recorded({x})) {
    x = (x / cap).tanh() * cap;
    return;
  }
  // Element by element in vectors: the bits do not depend on the number of rows.
  x.div_(cap).tanh_().mul_(cap);
}

void add(at::Tensor& residual, const at::Tensor& delta, double factor) {
  constexpr int64_t kGrain = 65536;  // values that are worth a thread
  check_rows(delta, residual.size(1));
  if (is_recorded({residual, delta})) {
    residual = residual + delta * factor;
    return;
  }
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
  if (is_recorded({x})) {
    return at::index_select(x, 0, from_integers(rows));
  }
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
