#include "tensor/operations.h"

#include <algorithm>

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>

#include "core/check.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/swiglu/swiglu.h"

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

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const int64_t columns = weight.size(0);
  check_rows(x, columns);
  at::Tensor y = empty_floats(x.size(0), columns);
  kernels::rms_norm({.x = x.const_data_ptr<float>(),
                     .delta = nullptr,
                     .sum = nullptr,
                     .weight = weight.const_data_ptr<float>(),
                     .y = y.mutable_data_ptr<float>(),
                     .rows = x.size(0),
                     .columns = columns,
                     .epsilon = static_cast<float>(epsilon)});
  return y;
}

at::Tensor add_rms_norm(const at::Tensor& residual,
                        const at::Tensor& delta,
                        const at::Tensor& weight,
                        double epsilon) {
  const int64_t columns = weight.size(0);
  check_rows(residual, columns);
  check_rows(delta, columns);
  at::Tensor y = empty_floats(residual.size(0), columns);
  auto* sum = residual.mutable_data_ptr<float>();
  kernels::rms_norm({.x = sum,
                     .delta = delta.const_data_ptr<float>(),
                     .sum = sum,
                     .weight = weight.const_data_ptr<float>(),
                     .y = y.mutable_data_ptr<float>(),
                     .rows = residual.size(0),
                     .columns = columns,
                     .epsilon = static_cast<float>(epsilon)});
  return y;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  check_rows(gate, gate.size(1));
  check_rows(up, gate.size(1));
  auto* y = gate.mutable_data_ptr<float>();
  kernels::swiglu(y, up.const_data_ptr<float>(), gate.size(0), gate.size(1), y);
  return gate;
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
