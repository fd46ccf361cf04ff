#include "kernels/half_floats.h"

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/half_floats.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

void to_floats(const uint16_t* source, int64_t count, float* target) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  const auto* values = reinterpret_cast<const hwy::float16_t*>(source);
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::StoreU(hn::PromoteTo(kFloats, hn::LoadU(halves, values + i)), kFloats, target + i);
  }
}

void to_halves(const float* source, int64_t count, uint16_t* target) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  auto* values = reinterpret_cast<hwy::float16_t*>(target);
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::StoreU(hn::DemoteTo(halves, hn::LoadU(kFloats, source + i)), halves, values + i);
  }
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {
HWY_EXPORT(to_floats);
HWY_EXPORT(to_halves);
}  // namespace

void floats_from_halves(const uint16_t* source, int64_t count, float* target) {
  HWY_DYNAMIC_DISPATCH(to_floats)(source, count, target);
}
void halves_from_floats(const float* source, int64_t count, uint16_t* target) {
  HWY_DYNAMIC_DISPATCH(to_halves)(source, count, target);
}

}  // namespace adze::kernels
#endif
