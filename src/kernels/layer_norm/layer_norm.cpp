#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm/layer_norm.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

struct Moments {
  float pivot;       // near the mean
  float correction;  // mean - pivot
  float scale;       // 1 / sqrt(variance + epsilon)
};

// Stores v = x + delta and returns the mean as far as f32 sums give it.
float sum_row(const LayerNorm& norm, int64_t offset) {
  const float* values = norm.x + offset;
  Vector sums[kParts];
  for (int part = 0; part < kParts; ++part) {
    sums[part] = hn::Zero(kFloats);
  }
  for (int64_t column = 0; column < norm.columns; column += 16) {
    for (int part = 0; part < kParts; ++part) {
      const int64_t place = column + part * kLanes;
      Vector value = hn::LoadU(kFloats, values + place);
      if (norm.delta != nullptr) {
        value = hn::Add(value, hn::LoadU(kFloats, norm.delta + offset + place));
        hn::StoreU(value, kFloats, norm.sum + offset + place);
      }
      sums[part] = hn::Add(sums[part], value);
    }
  }
  return sum_of_sixteen(sums) / static_cast<float>(norm.columns);
}

Moments moments_of(const float* values, int64_t columns, float pivot, float epsilon) {
  const Vector pivots = hn::Set(kFloats, pivot);
  Vector sums[kParts];
  Vector squares[kParts];
  for (int part = 0; part < kParts; ++part) {
    sums[part] = hn::Zero(kFloats);
    squares[part] = hn::Zero(kFloats);
  }
  for (int64_t column = 0; column < columns; column += 16) {
    for (int part = 0; part < kParts; ++part) {
      const Vector value = hn::LoadU(kFloats, values + column + part * kLanes);
      const Vector distance = hn::Sub(value, pivots);
      sums[part] = hn::Add(sums[part], distance);
      squares[part] = hn::MulAdd(distance, distance, squares[part]);
    }
  }
  const auto count = static_cast<float>(columns);
  const float correction = sum_of_sixteen(sums) / count;
  const float variance = sum_of_sixteen(squares) / count - correction * correction;
  return {pivot, correction, 1.0F / std::sqrt(std::max(variance, 0.0F) + epsilon)};
}

void norm_row(const LayerNorm& norm, int64_t row) {
  const int64_t offset = row * norm.columns;
  const float mean = sum_row(norm, offset);
  const float* values = (norm.delta != nullptr ? norm.sum : norm.x) + offset;
  const Moments moments = moments_of(values, norm.columns, mean, norm.epsilon);
  const Vector pivots = hn::Set(kFloats, moments.pivot);
  const Vector corrections = hn::Set(kFloats, moments.correction);
  const Vector scales = hn::Set(kFloats, moments.scale);
  for (int64_t column = 0; column < norm.columns; column += kLanes) {
    const Vector distance =
        hn::Sub(hn::Sub(hn::LoadU(kFloats, values + column), pivots), corrections);
    const Vector scaled = hn::Mul(distance, scales);
    const Vector weight = hn::LoadU(kFloats, norm.weight + column);
    const Vector y = norm.bias == nullptr
                         ? hn::Mul(scaled, weight)
                         : hn::MulAdd(scaled, weight, hn::LoadU(kFloats, norm.bias + column));
    hn::StoreU(y, kFloats, norm.y + offset + column);
  }
}

void norm_rows(const LayerNorm& norm) {
  // 16 rows of a few kB are the least that pays for waking a thread.
  core::parallel_for(norm.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      norm_row(norm, row);
    }
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(norm_rows);

void layer_norm(const LayerNorm& norm) {
  core::check(norm.columns % 16 == 0, "columns % 16, got ", norm.columns);
  HWY_DYNAMIC_DISPATCH(norm_rows)(norm);
}

}  // namespace adze::kernels
#endif
