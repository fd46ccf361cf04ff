#include "kernels/rms_norm/rms_norm.h"

#include <cmath>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm/rms_norm.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

void norm_row(const RmsNorm& norm, int64_t row) {
  const int64_t offset = row * norm.columns;
  const float* values = norm.x + offset;
  Vector squares[kParts];
  for (int part = 0; part < kParts; ++part) {
    squares[part] = hn::Zero(kFloats);
  }
  for (int64_t column = 0; column < norm.columns; column += 16) {
    for (int part = 0; part < kParts; ++part) {
      const int64_t place = column + part * kLanes;
      Vector value = hn::LoadU(kFloats, values + place);
      if (norm.delta != nullptr) {
        value = hn::Add(value, hn::LoadU(kFloats, norm.delta + offset + place));
        hn::StoreU(value, kFloats, norm.sum + offset + place);
      }
      squares[part] = hn::MulAdd(value, value, squares[part]);
    }
  }
  const float total = sum_of_sixteen(squares);
  const float scale = 1.0F / std::sqrt(total / static_cast<float>(norm.columns) + norm.epsilon);
  const Vector scales = hn::Set(kFloats, scale);
  const float* summed = norm.delta != nullptr ? norm.sum + offset : values;
  for (int64_t column = 0; column < norm.columns; column += kLanes) {
    const Vector scaled = hn::Mul(hn::LoadU(kFloats, summed + column), scales);
    hn::StoreU(hn::Mul(scaled, hn::LoadU(kFloats, norm.weight + column)),
               kFloats,
               norm.y + offset + column);
  }
}

void norm_rows(const RmsNorm& norm) {
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

void rms_norm(const RmsNorm& norm) {
  core::check(norm.columns % 16 == 0, "columns % 16, got ", norm.columns);
  HWY_DYNAMIC_DISPATCH(norm_rows)(norm);
}

}  // namespace adze::kernels
#endif
