#include "kernels/kv_codec/hadamard.h"

#include <cmath>

#include "core/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_codec/hadamard.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

#if HWY_MAX_BYTES >= 32

using EightFloats = hn::CappedTag<float, 8>;
using Eight = hn::Vec<EightFloats>;

// a + b for the first of two neighbours, a - b for the second, where neighbours are the lanes that
// `swapped` exchanges and `signs` is negative in the second.
HWY_INLINE Eight sums_and_differences(const Eight x, const Eight swapped, const Eight signs) {
  return hn::Add(hn::Xor(x, signs), swapped);
}

HWY_INLINE Eight turn_lanes(Eight x) {
  const EightFloats d;
  alignas(32) static constexpr float kSigns[3][8] = {
      {0.0F, -0.0F, 0.0F, -0.0F, 0.0F, -0.0F, 0.0F, -0.0F},
      {0.0F, 0.0F, -0.0F, -0.0F, 0.0F, 0.0F, -0.0F, -0.0F},
      {0.0F, 0.0F, 0.0F, 0.0F, -0.0F, -0.0F, -0.0F, -0.0F}};
  x = sums_and_differences(x, hn::Reverse2(d, x), hn::Load(d, kSigns[0]));
  x = sums_and_differences(x, hn::Shuffle1032(x), hn::Load(d, kSigns[1]));
  return sums_and_differences(x, hn::SwapAdjacentBlocks(x), hn::Load(d, kSigns[2]));
}

void turn_rows(int64_t rows, int64_t width, float* numbers) {
  const EightFloats d;
  const int64_t size = width & -width;
  const Eight scale = hn::Set(d, 1 / std::sqrt(static_cast<float>(size)));
  for (float* x = numbers; x < numbers + rows * width; x += size) {
    for (int64_t i = 0; i < size; i += 8) {
      hn::StoreU(turn_lanes(hn::LoadU(d, x + i)), d, x + i);
    }
    for (int64_t half = 8; half < size; half *= 2) {
      const bool last = 2 * half == size;
      for (int64_t first = 0; first < size; first += 2 * half) {
        for (int64_t i = first; i < first + half; i += 8) {
          const Eight low = hn::LoadU(d, x + i);
          const Eight high = hn::LoadU(d, x + i + half);
          const Eight sum = hn::Add(low, high);
          const Eight difference = hn::Sub(low, high);
          hn::StoreU(last ? hn::Mul(sum, scale) : sum, d, x + i);
          hn::StoreU(last ? hn::Mul(difference, scale) : difference, d, x + i + half);
        }
      }
    }
  }
}

#else

void turn_rows(int64_t rows, int64_t width, float* numbers) {
  hadamard_reference(rows, width, numbers);
}

#endif

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {

HWY_EXPORT(turn_rows);

}  // namespace

void hadamard(int64_t rows, int64_t width, float* numbers) {
  core::check(width % 16 == 0, "width % 16, got ", width);
  HWY_DYNAMIC_DISPATCH(turn_rows)(rows, width, numbers);
}

void hadamard_reference(int64_t rows, int64_t width, float* numbers) {
  const int64_t size = width & -width;
  const float scale = 1 / std::sqrt(static_cast<float>(size));
  for (float* x = numbers; x < numbers + rows * width; x += size) {
    for (int64_t half = 1; half < size; half *= 2) {
      for (int64_t first = 0; first < size; first += 2 * half) {
        for (int64_t i = first; i < first + half; ++i) {
          const float sum = x[i] + x[i + half];
          x[i + half] = x[i] - x[i + half];
          x[i] = sum;
        }
      }
    }
    for (int64_t i = 0; i < size; ++i) {
      x[i] *= scale;
    }
  }
}

}  // namespace adze::kernels
#endif
