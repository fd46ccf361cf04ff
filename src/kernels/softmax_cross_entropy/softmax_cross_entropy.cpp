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

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(row_losses);

void softmax_cross_entropy(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses) {
  HWY_DYNAMIC_DISPATCH(row_losses)(logits, targets, rows, columns, losses);
}

}  // namespace adze::kernels
#endif
