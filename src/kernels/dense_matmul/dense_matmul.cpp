// Blocks of three levels (Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008): a strip of b lies in the first cache while rows of a pass by, a block of
// a in the second, a block of b in the third. b is always packed into strips; a only where it is
// stored by columns, which tiles could read, but at a stride that fills few sets of the cache.

#include "kernels/dense_matmul/dense_matmul.h"

#include <algorithm>
#include <limits>

#include <hwy/aligned_allocator.h>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dense_matmul/dense_matmul.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/dense_matmul/multiply_strips-inl.h"
// clang-format on

#ifndef ADZE_DENSE_MATMUL_PLAN
#define ADZE_DENSE_MATMUL_PLAN
namespace adze::kernels {

// Blocks have a sum of their own. Where they begin does not hang on how deep a product is, so that
// gradients of the same rows are sums of the same numbers, however the rows are shared out to
// passes and processes.
constexpr int64_t kBlockDepth = 256;
constexpr int64_t kBlockRows = 96;       // of a: 98 kB
constexpr int64_t kBlockColumns = 1024;  // of b: 1 MB
// Floats of a packed block of a, whatever the rows of a tile; see kTileStride.
constexpr int64_t kPackedFloats = (kBlockDepth + 16) * kBlockRows;

// A thread's part of c.
struct Part {
  int64_t first_row, end_row, first_column, end_column;
};

// Memory of a thread, which it keeps.
struct Scratch {
  hwy::AlignedFreeUniquePtr<float[]> b =
      hwy::AllocateAligned<float>(static_cast<size_t>(kBlockDepth * kBlockColumns));
  hwy::AlignedFreeUniquePtr<float[]> a =
      hwy::AllocateAligned<float>(static_cast<size_t>(kPackedFloats));
};

inline Scratch& scratch() {
  thread_local Scratch memory;
  return memory;
}

}  // namespace adze::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Columns of b from `column`, as strips [depth, kStrip] one after the other; zeros beyond the end.
void pack_strips(const MatrixView& b,
                 int64_t first_k,
                 int64_t depth,
                 int64_t column,
                 int64_t end,
                 float* target) {
  for (; column < end; column += kStrip, target += depth * kStrip) {
    const int64_t count = std::min(kStrip, end - column);
    const float* source = b.values + first_k * b.row_stride + column * b.column_stride;
    if (count < kStrip) {
      std::fill_n(target, depth * kStrip, 0.0F);
    }
    if (b.column_stride == 1) {
      for (int64_t k = 0; k < depth && count == kStrip; ++k) {
        const float* row = source + k * b.row_stride;
        hn::Store(hn::LoadU(kFloats, row), kFloats, target + k * kStrip);
        hn::Store(hn::LoadU(kFloats, row + kLanes), kFloats, target + k * kStrip + kLanes);
      }
      for (int64_t k = 0; k < depth && count < kStrip; ++k) {
        std::copy_n(source + k * b.row_stride, count, target + k * kStrip);
      }
      continue;
    }
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t i = 0; i < count; ++i) {
        target[k * kStrip + i] = source[k + i * b.column_stride];
      }
    }
  }
}

// Floats from tile to tile of a packed block of a: a line more than a tile has, else the lines that
// one row of a goes to would share few sets of the first cache.
constexpr int64_t kTileStride = kBlockDepth * kTileRows + 16;
static_assert((kBlockRows + kTileRows - 1) / kTileRows * kTileStride <= kPackedFloats);

// Rows of a that is stored by columns, as tiles [depth, kTileRows].
void pack_tiles(
    const MatrixView& a, int64_t row, int64_t rows, int64_t first_k, int64_t depth, float* target) {
  for (int64_t k = 0; k < depth; ++k) {
    const float* source = a.values + row + (first_k + k) * a.column_stride;
    float* tile = target + k * kTileRows;
    int64_t r = 0;
    for (; r + kTileRows <= rows; r += kTileRows, tile += kTileStride) {
      std::copy_n(source + r, kTileRows, tile);
    }
    std::copy(source + r, source + rows, tile);
  }
}

// Rows of a times one packed strip, into at most kStrip columns of c.
template <bool by_columns>
void multiply_strip(int64_t rows,
                    int64_t count,
                    const float* a,
                    int64_t a_stride,
                    const float* strip,
                    int64_t depth,
                    bool resume,
                    float* c,
                    int64_t c_stride) {
  if (count == kStrip && !by_columns) {
    multiply_strips<false>(rows, kStrip, a, a_stride, strip, kStrip, depth, resume, c, c_stride);
    return;
  }
  HWY_ALIGN float edge[kTileRows * kStrip];
  for (int64_t row = 0; row < rows; row += kTileRows) {
    const int64_t tile_rows = std::min<int64_t>(kTileRows, rows - row);
    const float* tile = a + (by_columns ? row / kTileRows * kTileStride : row * a_stride);
    const int64_t tile_stride = by_columns ? kTileRows : a_stride;
    float* target = c + row * c_stride;
    if (count == kStrip) {
      multiply_strips<by_columns>(
          tile_rows, kStrip, tile, tile_stride, strip, kStrip, depth, resume, target, c_stride);
      continue;
    }
    for (int64_t r = 0; resume && r < tile_rows; ++r) {
      std::copy_n(target + r * c_stride, count, edge + r * kStrip);
    }
    multiply_strips<by_columns>(
        tile_rows, kStrip, tile, tile_stride, strip, kStrip, depth, resume, edge, kStrip);
    for (int64_t r = 0; r < tile_rows; ++r) {
      std::copy_n(edge + r * kStrip, count, target + r * c_stride);
    }
  }
}

template <bool by_columns>
void multiply_part(const DenseMatmul& product, const Part& part) {
  float* b_strips = scratch().b.get();
  float* a_tiles = scratch().a.get();
  for (int64_t column = part.first_column; column < part.end_column; column += kBlockColumns) {
    const int64_t end_column = std::min(column + kBlockColumns, part.end_column);
    for (int64_t k = 0; k < product.depth; k += kBlockDepth) {
      const int64_t depth = std::min(kBlockDepth, product.depth - k);
      const bool resume = k > 0 || product.adds;
      pack_strips(product.b, k, depth, column, end_column, b_strips);
      for (int64_t row = part.first_row; row < part.end_row; row += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, part.end_row - row);
        const float* a = product.a.values + row * product.a.row_stride + k;
        if (by_columns) {
          pack_tiles(product.a, row, rows, k, depth, a_tiles);
          a = a_tiles;
        }
        for (int64_t strip = column; strip < end_column; strip += kStrip) {
          multiply_strip<by_columns>(rows,
                                     std::min(kStrip, end_column - strip),
                                     a,
                                     product.a.row_stride,
                                     b_strips + (strip - column) * depth,
                                     depth,
                                     resume,
                                     product.c + row * product.c_stride + strip,
                                     product.c_stride);
        }
      }
    }
  }
}

// How many threads share out rows, and how many columns: what costs each of them least, counted in
// cycles of multiply-adds and of packing.
void multiply(const DenseMatmul& product) {
  const bool by_columns = product.a.column_stride != 1;
  const auto share = [](int64_t size, int64_t unit, int64_t parts) {
    const int64_t units = (size + unit - 1) / unit;
    return (units + parts - 1) / parts * unit;
  };
  // Below a million multiply-adds a second thread costs more than it takes over.
  const int64_t threads = std::min<int64_t>(
      core::num_threads(), product.rows * product.columns * product.depth / 1'000'000 + 1);
  int64_t row_parts = 1;
  int64_t best = std::numeric_limits<int64_t>::max();
  for (int64_t count = 1; count <= threads; ++count) {
    const int64_t rows = share(product.rows, kTileRows, count);
    const int64_t columns = share(product.columns, kStrip, threads / count);
    const int64_t cost = rows * columns / kStrip + columns + (by_columns ? rows : 0);
    if (cost < best) {
      best = cost;
      row_parts = count;
    }
  }
  const int64_t column_parts = threads / row_parts;
  const int64_t rows = share(product.rows, kTileRows, row_parts);
  const int64_t columns = share(product.columns, kStrip, column_parts);
  core::parallel_region(static_cast<int>(row_parts * column_parts), [&](int index) {
    const int64_t first_row = index % row_parts * rows;
    const int64_t first_column = index / row_parts * columns;
    const Part part{first_row,
                    std::min(first_row + rows, product.rows),
                    first_column,
                    std::min(first_column + columns, product.columns)};
    if (by_columns) {
      multiply_part<true>(product, part);
    } else {
      multiply_part<false>(product, part);
    }
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(multiply);

void dense_matmul(const DenseMatmul& product) {
  core::check(product.a.row_stride == 1 || product.a.column_stride == 1, "rows or columns of a");
  core::check(product.b.row_stride == 1 || product.b.column_stride == 1, "rows or columns of b");
  if (product.rows == 0 || product.columns == 0) {
    return;
  }
  core::check(product.depth > 0, "a depth of 1 or more");
  HWY_DYNAMIC_DISPATCH(multiply)(product);
}

}  // namespace adze::kernels
#endif
