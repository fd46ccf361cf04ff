#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax_cross_entropy/softmax_cross_entropy.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/contrib/math/math-inl.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Sums over 256 values in f32, their totals in double: the error stays that of a short sum.
constexpr int64_t kRun = 256;

float row_maximum(const float* values, int64_t columns) {
  Vector largest = hn::Set(kFloats, values[0]);
  int64_t column = 0;
  for (; column + kLanes <= columns; column += kLanes) {
    largest = hn::Max(largest, hn::LoadU(kFloats, values + column));
  }
  float result = hn::GetLane(hn::MaxOfLanes(kFloats, largest));
  for (; column < columns; ++column) {
    result = std::max(result, values[column]);
  }
  return result;
}

double run_sum(const float* values, int64_t count, float largest) {
  const Vector shift = hn::Set(kFloats, largest);
  Vector sums[kParts];
  for (int part = 0; part < kParts; ++part) {
    sums[part] = hn::Zero(kFloats);
  }
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int part = 0; part < kParts; ++part) {
      const Vector value = hn::LoadU(kFloats, values + i + part * kLanes);
      sums[part] = hn::Add(sums[part], hn::Exp(kFloats, hn::Sub(value, shift)));
    }
  }
  auto total = sum_of_sixteen<double>(sums);
  for (; i < count; ++i) {
    total += std::exp(static_cast<double>(values[i]) - static_cast<double>(largest));
  }
  return total;
}

void row_losses(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses) {
  core::parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* values = logits + row * columns;
      if (targets[row] < 0) {
        losses[row] = 0;
        continue;
      }
      const float largest = row_maximum(values, columns);
      double total = 0;
      for (int64_t first = 0; first < columns; first += kRun) {
        total += run_sum(values + first, std::min(kRun, columns - first), largest);
      }
      losses[row] = static_cast<float>(std::log(total) + static_cast<double>(largest) -
                                       static_cast<double>(values[targets[row]]));
    }
  });
}

// exp(values - largest) over the values; returns their sum. NOTE: Highway's Exp makes 0 of NaN, so
// what is not finite is added as zero times itself.
double exponentiate(float* values, int64_t columns, float largest) {
  const Vector shift = hn::Set(kFloats, largest);
  const Vector zero = hn::Zero(kFloats);
  double total = 0;
  int64_t column = 0;
  for (; column + kLanes <= columns; column += kRun) {
    Vector sum = zero;
    const int64_t end = std::min(columns, column + kRun) / kLanes * kLanes;
    for (int64_t i = column; i < end; i += kLanes) {
      const Vector below = hn::Sub(hn::LoadU(kFloats, values + i), shift);
      const Vector power = hn::Exp(kFloats, below);
      hn::StoreU(power, kFloats, values + i);
      sum = hn::MulAdd(below, zero, hn::Add(sum, power));
    }
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(kFloats, sum)));
  }
  for (column = columns / kLanes * kLanes; column < columns; ++column) {
    values[column] = std::exp(values[column] - largest);
    total += static_cast<double>(values[column]);
  }
  return total;
}

void gradient_row(const CrossEntropyGradient& rows, int64_t row) {
  float* values = rows.logits + row * rows.columns;
  const int32_t target = rows.targets[row];
  if (target < 0) {
    std::fill_n(values, rows.columns, 0.0F);
    rows.losses[row] = 0;
    return;
  }
  const float largest = row_maximum(values, rows.columns);
  const float of_target = values[target];
  const double total = exponentiate(values, rows.columns, largest);
  const double log_sum = std::log(total) + static_cast<double>(largest);
  rows.losses[row] = static_cast<float>(log_sum - static_cast<double>(of_target));
  const auto scale = static_cast<double>(rows.scale);
  const double factor = scale * (1 + 2 * static_cast<double>(rows.z_loss) * log_sum) / total;
  const Vector factors = hn::Set(kFloats, static_cast<float>(factor));
  int64_t column = 0;
  for (; column + kLanes <= rows.columns; column += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(kFloats, values + column), factors), kFloats, values + column);
  }
  for (; column < rows.columns; ++column) {
    values[column] *= static_cast<float>(factor);
  }
  values[target] -= rows.scale;
}

void gradient_rows(const CrossEntropyGradient& rows) {
  core::parallel_for(rows.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      gradient_row(rows, row);
    }
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(row_losses);
HWY_EXPORT(gradient_rows);

void softmax_cross_entropy(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses) {
  HWY_DYNAMIC_DISPATCH(row_losses)(logits, targets, rows, columns, losses);
}

void softmax_cross_entropy_gradient(const CrossEntropyGradient& rows) {
  HWY_DYNAMIC_DISPATCH(gradient_rows)(rows);
}

}  // namespace adze::kernels
#endif
