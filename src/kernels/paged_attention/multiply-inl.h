// The product of both attention kernels: rows of f32 times a panel of 16 or 32 lanes, summed over
// its depth in rising order. Include after <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_ATTENTION_MULTIPLY_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_ATTENTION_MULTIPLY_INL_H
#undef ADZE_KERNELS_ATTENTION_MULTIPLY_INL_H
#else
#define ADZE_KERNELS_ATTENTION_MULTIPLY_INL_H
#endif

#include <algorithm>
#include <type_traits>

#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

// Sums of a register tile: 12 (AVX2, 16 registers) or 24 (AVX-512, 32 registers).
constexpr int kTileSums = kLanes == 16 ? 24 : 12;

HWY_INLINE Vector load(const float* address) {
  return hn::LoadU(kFloats, address);
}
HWY_INLINE Vector load(const hwy::float16_t* address) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, address));
}

HWY_INLINE Vector load(const hwy::bfloat16_t* address) {
  const hn::Rebind<hwy::bfloat16_t, Floats> halves;
  return hn::PromoteTo(kFloats, hn::LoadU(halves, address));
}
HWY_INLINE Vector load(const int8_t* address) {
  const hn::Rebind<int8_t, Floats> bytes;
  const hn::RebindToSigned<Floats> integers;
  return hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, address)));
}

// c [kRows, kVectors * kLanes] (+)= a [kRows, depth] · b [depth, ...]; with `fetch`, brings as many
// bytes from `next` on into the cache.
template <bool fetch, int kRows, int kVectors, class Element>
HWY_INLINE void multiply_tile(const float* HWY_RESTRICT a,
                              int64_t a_stride,
                              const Element* HWY_RESTRICT b,
                              int64_t b_stride,
                              const std::byte* next,
                              int64_t depth,
                              bool resume,
                              float* HWY_RESTRICT c,
                              int64_t c_stride) {
  constexpr int64_t kBytes = kVectors * kLanes * static_cast<int64_t>(sizeof(Element));
  Vector sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = resume ? load(c + r * c_stride + v * kLanes) : hn::Zero(kFloats);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t byte = 0; fetch && byte < kBytes; byte += 64) {
      fetch_ahead(next + k * kBytes + byte);
    }
    // The smaller side is held in registers, the other passes through one: 3 rows of 4 vectors take
    // all 16 of AVX2.
    if constexpr (kRows < kVectors) {
      Vector values[kRows];
      for (int r = 0; r < kRows; ++r) {
        values[r] = hn::Set(kFloats, a[r * a_stride + k]);
      }
      for (int v = 0; v < kVectors; ++v) {
        const Vector lanes = load(b + k * b_stride + v * kLanes);
        for (int r = 0; r < kRows; ++r) {
          sums[r][v] = hn::MulAdd(values[r], lanes, sums[r][v]);
        }
      }
    } else {
      Vector lanes[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        lanes[v] = load(b + k * b_stride + v * kLanes);
      }
      for (int r = 0; r < kRows; ++r) {
        const Vector value = hn::Set(kFloats, a[r * a_stride + k]);
        for (int v = 0; v < kVectors; ++v) {
          sums[r][v] = hn::MulAdd(value, lanes[v], sums[r][v]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sums[r][v], kFloats, c + r * c_stride + v * kLanes);
    }
  }
}

// All rows over 16 * kHalves lanes, in register tiles.
template <bool fetch, int kHalves, class Element>
HWY_INLINE void multiply_lanes(int64_t rows,
                               const float* a,
                               int64_t a_stride,
                               const Element* b,
                               int64_t b_stride,
                               const std::byte* next,
                               int64_t depth,
                               bool resume,
                               float* c,
                               int64_t c_stride) {
  constexpr int kVectors = kHalves * 16 / kLanes;
  constexpr int kMostRows = std::max(1, kTileSums / kVectors);
  int64_t row = 0;
  const auto run = [&](auto count) HWY_ATTR {
    multiply_tile<fetch, count.value, kVectors>(a + row * a_stride,
                                                a_stride,
                                                b,
                                                b_stride,
                                                next,
                                                depth,
                                                resume,
                                                c + row * c_stride,
                                                c_stride);
    row += count.value;
  };
  while (row + kMostRows <= rows) {
    run(std::integral_constant<int, kMostRows>());
  }
  while (row + 3 <= rows) {
    run(std::integral_constant<int, 3>());
  }
  while (row < rows) {
    run(std::integral_constant<int, 1>());
  }
}

// c [rows, lanes] (+)= a [rows, depth] · b [depth, lanes]; lanes a multiple of 16. Pages are too
// short for the hardware to follow, so where b is one, `next` is what will be read after it.
template <bool fetch, class Element>
HWY_INLINE void multiply(int64_t rows,
                         const float* a,
                         int64_t a_stride,
                         const Element* b,
                         const std::byte* next,
                         int64_t lanes,
                         int64_t depth,
                         bool resume,
                         float* c,
                         int64_t c_stride) {
  int64_t lane = 0;
  const auto run = [&](auto halves) HWY_ATTR {
    multiply_lanes<fetch, halves.value>(rows,
                                        a,
                                        a_stride,
                                        b + lane,
                                        lanes,
                                        next + lane * depth * static_cast<int64_t>(sizeof(Element)),
                                        depth,
                                        resume,
                                        c + lane,
                                        c_stride);
    lane += 16 * halves.value;
  };
  while (lane + 32 <= lanes) {
    run(std::integral_constant<int, 2>());
  }
  if (lane < lanes) {
    run(std::integral_constant<int, 1>());
  }
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
