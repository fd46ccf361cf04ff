// The product of register tiles that f32 matrices and the attention of training are made of.
// Include after <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_MULTIPLY_STRIPS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_MULTIPLY_STRIPS_INL_H
#undef ADZE_KERNELS_MULTIPLY_STRIPS_INL_H
#else
#define ADZE_KERNELS_MULTIPLY_STRIPS_INL_H
#endif

#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

// A tile is two vectors wide and has as many rows as leave registers for a row of b and a value of
// a: 12 of 16 (AVX2), 24 of 32 (AVX-512) hold sums. Only then does the loop run at two
// multiply-adds a cycle.
constexpr int64_t kStrip = 2 * kLanes;
constexpr int kTileRows = kLanes == 16 ? 12 : 6;

// c [kRows, kStrip] (+)= a [kRows, depth] · b [depth, kStrip], summed in rising order and then
// added: sums of many short sums lose fewer bits than one long one. a by rows: a[r * a_stride + k];
// by columns: a[k * a_stride + r].
template <bool by_columns, int kRows>
HWY_INLINE void multiply_strip_tile(const float* HWY_RESTRICT a,
                                    int64_t a_stride,
                                    const float* HWY_RESTRICT b,
                                    int64_t b_stride,
                                    int64_t depth,
                                    bool resume,
                                    float* HWY_RESTRICT c,
                                    int64_t c_stride) {
  Vector sums[kRows][2];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) {
      sums[r][v] = hn::Zero(kFloats);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vector left = hn::LoadU(kFloats, b);
    const Vector right = hn::LoadU(kFloats, b + kLanes);
    for (int r = 0; r < kRows; ++r) {
      const Vector value = hn::Set(kFloats, by_columns ? a[r] : a[r * a_stride]);
      sums[r][0] = hn::MulAdd(value, left, sums[r][0]);
      sums[r][1] = hn::MulAdd(value, right, sums[r][1]);
    }
    a += by_columns ? a_stride : 1;
    b += b_stride;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) {
      float* target = c + r * c_stride + v * kLanes;
      const Vector sum = sums[r][v];
      hn::StoreU(resume ? hn::Add(hn::LoadU(kFloats, target), sum) : sum, kFloats, target);
    }
  }
}

// Fewer rows than a tile has.
template <bool by_columns, int kRows>
HWY_INLINE void multiply_last_rows(int64_t rows,
                                   const float* a,
                                   int64_t a_stride,
                                   const float* b,
                                   int64_t b_stride,
                                   int64_t depth,
                                   bool resume,
                                   float* c,
                                   int64_t c_stride) {
  if (rows == kRows) {
    multiply_strip_tile<by_columns, kRows>(a, a_stride, b, b_stride, depth, resume, c, c_stride);
  } else if constexpr (kRows > 1) {
    multiply_last_rows<by_columns, kRows - 1>(
        rows, a, a_stride, b, b_stride, depth, resume, c, c_stride);
  }
}

// c [rows, lanes] (+)= a [rows, depth] · b [depth, lanes]; lanes a multiple of kStrip.
template <bool by_columns>
void multiply_strips(int64_t rows,
                     int64_t lanes,
                     const float* a,
                     int64_t a_stride,
                     const float* b,
                     int64_t b_stride,
                     int64_t depth,
                     bool resume,
                     float* c,
                     int64_t c_stride) {
  const int64_t step = by_columns ? 1 : a_stride;
  for (int64_t lane = 0; lane < lanes; lane += kStrip) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows) {
      multiply_strip_tile<by_columns, kTileRows>(a + row * step,
                                                 a_stride,
                                                 b + lane,
                                                 b_stride,
                                                 depth,
                                                 resume,
                                                 c + row * c_stride + lane,
                                                 c_stride);
    }
    if (row < rows) {
      multiply_last_rows<by_columns, kTileRows - 1>(rows - row,
                                                    a + row * step,
                                                    a_stride,
                                                    b + lane,
                                                    b_stride,
                                                    depth,
                                                    resume,
                                                    c + row * c_stride + lane,
                                                    c_stride);
    }
  }
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
