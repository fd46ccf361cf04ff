#include "kernels/swiglu/swiglu.h"

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu/swiglu.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/contrib/math/math-inl.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

void gate_rows(const float* gate, const float* up, int64_t rows, int64_t columns, float* y) {
  core::parallel_for(rows, 8, [&](int64_t begin, int64_t end) {
    const auto one = hn::Set(kFloats, 1.0F);
    // NOTE: Highway's Exp wraps above 88.7. A gate beyond 88 passes less than 1e-36 of its input.
    const auto largest = hn::Set(kFloats, 88.0F);
    for (int64_t i = begin * columns; i < end * columns; i += kLanes) {
      const auto value = hn::LoadU(kFloats, gate + i);
      const auto exponent = hn::Min(hn::Neg(value), largest);
      const auto denominator = hn::Add(one, hn::Exp(kFloats, exponent));
      hn::StoreU(hn::Mul(hn::Div(value, denominator), hn::LoadU(kFloats, up + i)), kFloats, y + i);
    }
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(gate_rows);

void swiglu(const float* gate, const float* up, int64_t rows, int64_t columns, float* y) {
  core::check(columns % 16 == 0, "columns % 16, got ", columns);
  HWY_DYNAMIC_DISPATCH(gate_rows)(gate, up, rows, columns, y);
}

}  // namespace adze::kernels
#endif
