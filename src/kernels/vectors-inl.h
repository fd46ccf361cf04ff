// Vectors of up to 16 floats for kernels that are compiled once an instruction set. Include after
// <hwy/foreach_target.h>; the guard below toggles with the target (Highway's idiom).

#if defined(ADZE_KERNELS_VECTORS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_VECTORS_INL_H
#undef ADZE_KERNELS_VECTORS_INL_H
#else
#define ADZE_KERNELS_VECTORS_INL_H
#endif

#include <cstdint>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(kFloats));
constexpr int kParts = 16 / kLanes;  // vectors that make 16 lanes

// Brings a line into the second-level cache. The first level's few outstanding misses are left to
// the loads: fetching into it cut decode attention by a sixth.
HWY_INLINE void fetch_ahead(const void* address) {
  __builtin_prefetch(address, 0, 2);
}

// 16 running sums whatever the vector width, added up in rising order: AVX2 and AVX-512 agree.
template <class Total = float>
HWY_INLINE Total sum_of_sixteen(const Vector (&parts)[kParts]) {
  HWY_ALIGN float lanes[16];
  for (int part = 0; part < kParts; ++part) {
    hn::StoreU(parts[part], kFloats, lanes + part * kLanes);
  }
  Total total = 0;
  for (const float lane : lanes) {
    total += static_cast<Total>(lane);
  }
  return total;
}

// The same, added up by halves: shorter chains.
HWY_INLINE float sum_by_halves(const Vector (&parts)[kParts]) {
#if HWY_MAX_BYTES >= 32
  const hn::CappedTag<float, 8> eight;
  const hn::Half<decltype(eight)> four;
#if HWY_MAX_BYTES == 64
  const auto half = hn::Add(hn::LowerHalf(eight, parts[0]), hn::UpperHalf(eight, parts[0]));
#else
  const auto half = hn::Add(parts[0], parts[1]);
#endif
  auto sum = hn::Add(hn::LowerHalf(four, half), hn::UpperHalf(four, half));
  sum = hn::Add(sum, hn::Shuffle1032(sum));
  return hn::GetLane(hn::Add(sum, hn::Shuffle2301(sum)));
#else
  HWY_ALIGN float lanes[16];
  for (int part = 0; part < kParts; ++part) {
    hn::StoreU(parts[part], kFloats, lanes + part * kLanes);
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      lanes[i] += lanes[i + half];
    }
  }
  return lanes[0];
#endif
}

// The same address, of which the compiler knows nothing: what is loaded through it is loaded there
// and then, and takes no register from a loop that has none left.
template <class Element>
HWY_INLINE const Element* hidden(const Element* address) {
  asm volatile("" : "+r"(address));
  return address;
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
