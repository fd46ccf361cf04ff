// The fast product. Two paths with equal bits: few rows read the packed weights straight into
// multiply-adds (memory bound), many rows first unpack a tile of panels to f32 (compute bound).

#include "kernels/packed_matmul/packed_matmul.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/packed_matmul/int8_matmul.h"
#include "kernels/packed_matmul/panel_layout.h"
#include "kernels/packed_matmul/panel_tiles.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/packed_matmul/packed_matmul.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
#include "kernels/packed_matmul/panel_readers-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Register tile of the compute-bound path. AVX2 has 16 registers: 6 rows x 2 vectors of sums, 2 of
// weights, 1 of x. AVX-512 has 32: 12 rows x 2 vectors, 2, 1. Both do 12 or 24 independent chains,
// above latency x throughput (4 cycles x 2).
constexpr int kTilePanels = kVectors == 1 ? 2 : 1;
constexpr int kTileRows = kVectors == 1 ? 12 : 6;
constexpr int kTileOutputs = kTilePanels * 16;
// Columns unpacked at a time: 1024 x 32 x 4 bytes = 128 KiB (AVX2: 64) stay in the second-level
// cache.
constexpr int64_t kTileDepth = 1024;
// Up to here, unpacking once per row tile costs less than storing and reloading f32. Without
// vectors there is one path: the other would only cost compile time.
constexpr int kDirectRows = kVectors == 1 ? 8 : kVectors == 2 ? 4 : 0;

// Runs step.template operator()<0..7>().
template <class Step>
HWY_INLINE void eight_columns(Step&& step) {
  step(std::integral_constant<int, 0>());
  step(std::integral_constant<int, 1>());
  step(std::integral_constant<int, 2>());
  step(std::integral_constant<int, 3>());
  step(std::integral_constant<int, 4>());
  step(std::integral_constant<int, 5>());
  step(std::integral_constant<int, 6>());
  step(std::integral_constant<int, 7>());
}

// Stores 16 sums of a row; the last panel may hold fewer outputs.
HWY_INLINE void store_panel(const Vector* sums, float* y, int64_t valid) {
  if (valid >= 16) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sums[v], kFloats, y + v * kLanes);
    }
    return;
  }
  HWY_ALIGN float staged[16];
  for (int v = 0; v < kVectors; ++v) {
    hn::StoreU(sums[v], kFloats, staged + v * kLanes);
  }
  std::copy_n(staged, valid, y);
}

// kRows rows times kPanels panels, sums in registers over all columns.
template <TensorType type, int kRows, int kPanels>
HWY_NOINLINE void direct_tile(const float* x,
                              int64_t rows,
                              int64_t columns,
                              const uint8_t* panels,
                              const MatmulOutput& output,
                              int64_t first_output) {
  const int64_t bytes = panel_bytes(type, columns);
  // Rows beyond `rows` repeat the last one and are not stored.
  const float* x_rows[kRows];
  for (int r = 0; r < kRows; ++r) {
    x_rows[r] = x + std::min<int64_t>(r, rows - 1) * columns;
  }
  Vector sums[kRows][kPanels][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      for (int v = 0; v < kVectors; ++v) {
        sums[r][p][v] = hn::Zero(kFloats);
      }
    }
  }
  Reader<type> readers[kPanels];
  const int64_t blocks = columns / kBlockColumns;
  for (int64_t block = 0; block < blocks; ++block) {
    for (int p = 0; p < kPanels; ++p) {
      readers[p].open(panels + p * bytes, block);
      // The streams of a tile are too short for the hardware to follow, so the next tile's are
      // fetched by hand: its same block, kPanels panels ahead.
      const uint8_t* next = panels + (kPanels + p) * bytes + block * bytes / blocks;
      for (int64_t line = 0; line < bytes / blocks; line += 64) {
        fetch_ahead(next + line);
      }
    }
    for (int group = 0; group < 4; ++group) {
      for (int p = 0; p < kPanels; ++p) {
        readers[p].group(group);
      }
      const int64_t first = block * kBlockColumns + group * 8;
      eight_columns([&](auto column) HWY_ATTR {
        Vector weights[kPanels][kVectors];
        for (int p = 0; p < kPanels; ++p) {
          for (int v = 0; v < kVectors; ++v) {
            weights[p][v] = readers[p].template weight<column>(v);
          }
        }
        for (int r = 0; r < kRows; ++r) {
          const Vector value = hn::Set(kFloats, x_rows[r][first + column]);
          for (int p = 0; p < kPanels; ++p) {
            for (int v = 0; v < kVectors; ++v) {
              sums[r][p][v] = hn::MulAdd(value, weights[p][v], sums[r][p][v]);
            }
          }
        }
      });
    }
  }
  for (int r = 0; r < std::min<int64_t>(kRows, rows); ++r) {
    for (int p = 0; p < kPanels; ++p) {
      const int64_t o = first_output + p * 16;
      store_panel(sums[r][p], output.y + r * output.stride + o, output.weight.outputs - o);
    }
  }
}

template <TensorType type, int kRows>
HWY_INLINE void direct_panels(const float* x,
                              int64_t rows,
                              int64_t columns,
                              const MatmulOutput& output,
                              int64_t begin,
                              int64_t end) {
  // More panels at once where few rows leave registers free: 4 chains hide the latency.
  constexpr int kPanels = (kRows == 1 ? 2 : 1) * kTilePanels;
  const int64_t bytes = panel_bytes(type, columns);
  const auto* panels = reinterpret_cast<const uint8_t*>(output.weight.panels);
  int64_t panel = begin;
  for (; panel + kPanels <= end; panel += kPanels) {
    direct_tile<type, kRows, kPanels>(x, rows, columns, panels + panel * bytes, output, panel * 16);
  }
  if constexpr (kPanels > 2) {
    for (; panel + 2 <= end; panel += 2) {
      direct_tile<type, kRows, 2>(x, rows, columns, panels + panel * bytes, output, panel * 16);
    }
  }
  for (; panel < end; ++panel) {
    direct_tile<type, kRows, 1>(x, rows, columns, panels + panel * bytes, output, panel * 16);
  }
}

template <TensorType type>
void direct_rows(const float* x,
                 int64_t rows,
                 int64_t columns,
                 const MatmulOutput& output,
                 int64_t begin,
                 int64_t end) {
  if constexpr (kDirectRows > 0) {
    if (rows == 1) {
      direct_panels<type, 1>(x, rows, columns, output, begin, end);
    } else if (rows == 2) {
      direct_panels<type, 2>(x, rows, columns, output, begin, end);
    } else if (rows <= 4) {
      direct_panels<type, 4>(x, rows, columns, output, begin, end);
    } else {
      direct_panels<type, kDirectRows>(x, rows, columns, output, begin, end);
    }
  }
}

// Columns [first, first + depth) of kTilePanels panels as f32: weights [depth, kTileOutputs].
template <TensorType type>
void unpack_tile(const uint8_t* panels,
                 int64_t count,
                 int64_t columns,
                 int64_t first,
                 int64_t depth,
                 float* weights) {
  const int64_t bytes = panel_bytes(type, columns);
  for (int64_t p = 0; p < count; ++p) {
    Reader<type> reader;
    float* target = weights + p * 16;
    for (int64_t block = first / kBlockColumns; block < (first + depth) / kBlockColumns; ++block) {
      reader.open(panels + p * bytes, block);
      for (int group = 0; group < 4; ++group) {
        reader.group(group);
        eight_columns([&](auto column) HWY_ATTR {
          for (int v = 0; v < kVectors; ++v) {
            hn::StoreU(reader.template weight<column>(v),
                       kFloats,
                       target + column * kTileOutputs + v * kLanes);
          }
        });
        target += 8 * kTileOutputs;
      }
    }
  }
}

// kRows x kTileOutputs sums over `depth` columns. x [depth, row_stride], weights [depth,
// kTileOutputs], sums [kTileRows, kTileOutputs] continued where `resume`.
template <int kRows>
HWY_INLINE void multiply_tile(const float* HWY_RESTRICT x,
                              const float* HWY_RESTRICT weights,
                              int64_t depth,
                              bool resume,
                              float* const* y) {
  constexpr int kTileVectors = kTilePanels * kVectors;
  Vector sums[kRows][kTileVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      sums[r][v] = resume ? hn::LoadU(kFloats, y[r] + v * kLanes) : hn::Zero(kFloats);
    }
  }
  for (int64_t column = 0; column < depth; ++column) {
    Vector weight[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      weight[v] = hn::LoadU(kFloats, weights + column * kTileOutputs + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vector value = hn::Set(kFloats, x[column * kTileRows + r]);
      for (int v = 0; v < kTileVectors; ++v) {
        sums[r][v] = hn::MulAdd(value, weight[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      hn::StoreU(sums[r][v], kFloats, y[r] + v * kLanes);
    }
  }
}

// One tile of panels times all rows. packed_x: row tiles of [columns, kTileRows].
template <TensorType type>
void unpacked_panels(const float* packed_x,
                     int64_t rows,
                     int64_t columns,
                     const MatmulOutput& output,
                     int64_t panel,
                     int64_t count,
                     float* weights) {
  const int64_t bytes = panel_bytes(type, columns);
  const auto* panels = reinterpret_cast<const uint8_t*>(output.weight.panels) + panel * bytes;
  const int64_t valid = std::min<int64_t>(output.weight.outputs - panel * 16, count * 16);
  const bool whole = valid == kTileOutputs;
  for (int64_t first = 0; first < columns; first += kTileDepth) {
    const int64_t depth = std::min(kTileDepth, columns - first);
    unpack_tile<type>(panels, count, columns, first, depth, weights);
    for (int64_t row = 0; row < rows; row += kTileRows) {
      // Rows past the end, and tiles narrower than a full one, pass through a staging buffer.
      HWY_ALIGN float staged[kTileRows][kTileOutputs];
      float* y[kTileRows];
      const int64_t tile_rows = std::min<int64_t>(kTileRows, rows - row);
      for (int r = 0; r < kTileRows; ++r) {
        float* target = output.y + (row + r) * output.stride + panel * 16;
        y[r] = r < tile_rows && whole ? target : staged[r];
        if (!whole && first > 0 && r < tile_rows) {
          std::copy_n(target, valid, staged[r]);
        }
      }
      const float* x = packed_x + row * columns + first * kTileRows;
      if (tile_rows <= kTileRows / 2) {
        multiply_tile<kTileRows / 2>(x, weights, depth, first > 0, y);
      } else {
        multiply_tile<kTileRows>(x, weights, depth, first > 0, y);
      }
      for (int64_t r = 0; !whole && r < tile_rows; ++r) {
        std::copy_n(staged[r], valid, output.y + (row + r) * output.stride + panel * 16);
      }
    }
  }
}

// Row tile t of x as [columns, kTileRows]; rows past the end are zero.
void pack_x_tile(const float* x, int64_t rows, int64_t columns, int64_t tile, float* packed) {
  const int64_t first = tile * kTileRows;
  for (int64_t r = 0; r < kTileRows; ++r) {
    float* target = packed + first * columns + r;
    if (first + r < rows) {
      const float* source = x + (first + r) * columns;
      for (int64_t column = 0; column < columns; ++column) {
        target[column * kTileRows] = source[column];
      }
    } else {
      for (int64_t column = 0; column < columns; ++column) {
        target[column * kTileRows] = 0;
      }
    }
  }
}

// Calls body(integral_constant<TensorType>) for the weight's type.
template <class Body>
HWY_INLINE void with_type(TensorType type, Body&& body) {
  using enum TensorType;
  switch (type) {
    case kF32:
      return body(std::integral_constant<TensorType, kF32>());
    case kF16:
      return body(std::integral_constant<TensorType, kF16>());
    case kBF16:
      return body(std::integral_constant<TensorType, kBF16>());
    default:
      return with_code_type(type, body);
  }
}

void matmul(const float* x,
            int64_t rows,
            int64_t columns,
            std::span<const MatmulOutput> outputs,
            std::vector<float>& packed_x) {
  if (rows <= kDirectRows) {
    for_panels(outputs, kTilePanels, [&](const MatmulOutput& output, int64_t begin, int64_t end) {
      with_type(output.weight.type,
                [&](auto type) { direct_rows<type.value>(x, rows, columns, output, begin, end); });
    });
    return;
  }
  const int64_t row_tiles = (rows + kTileRows - 1) / kTileRows;
  packed_x.resize(static_cast<size_t>(row_tiles * kTileRows * columns));
  core::parallel_for(row_tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      pack_x_tile(x, rows, columns, tile, packed_x.data());
    }
  });
  for_panels(outputs, kTilePanels, [&](const MatmulOutput& output, int64_t begin, int64_t end) {
    static thread_local std::vector<float> weights;
    weights.resize(static_cast<size_t>(std::min(columns, kTileDepth) * kTileOutputs));
    with_type(output.weight.type, [&](auto type) {
      for (int64_t panel = begin; panel < end; panel += kTilePanels) {
        unpacked_panels<type.value>(packed_x.data(),
                                    rows,
                                    columns,
                                    output,
                                    panel,
                                    std::min<int64_t>(kTilePanels, end - panel),
                                    weights.data());
      }
    });
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(matmul);

namespace {

// Calls body(arithmetic, the outputs that have it) for each run of neighbours that agree.
template <class Body>
void for_each_arithmetic(std::span<const MatmulOutput> outputs, Body&& body) {
  while (!outputs.empty()) {
    const Arithmetic arithmetic = outputs.front().weight.arithmetic;
    const auto end = std::find_if(outputs.begin(), outputs.end(), [&](const MatmulOutput& output) {
      return output.weight.arithmetic != arithmetic;
    });
    const auto count = static_cast<size_t>(end - outputs.begin());
    body(arithmetic, outputs.first(count));
    outputs = outputs.subspan(count);
  }
}

}  // namespace

void packed_matmul(const float* x,
                   int64_t rows,
                   int64_t columns,
                   std::span<const MatmulOutput> outputs) {
  if (rows == 0) {
    return;
  }
  for (const MatmulOutput& output : outputs) {
    core::check(output.weight.columns == columns,
                "columns of weight and x, got ",
                output.weight.columns,
                " and ",
                columns);
    const int64_t unit = std::max(panel_form(output.weight.type).columns, kBlockColumns);
    core::check(columns % unit == 0, "columns % ", unit, ", got ", columns);
    core::check(
        output.weight.arithmetic == Arithmetic::kF32 || has_int8_products(output.weight.type),
        "a type of codes for integer products, got ",
        core::info(output.weight.type).name);
  }
  static thread_local std::vector<float> packed_x;
  for_each_arithmetic(outputs, [&](Arithmetic arithmetic, std::span<const MatmulOutput> some) {
    if (arithmetic == Arithmetic::kInt8) {
      int8_matmul(x, rows, columns, some);
    } else {
      HWY_DYNAMIC_DISPATCH(matmul)(x, rows, columns, some, packed_x);
    }
  });
}

}  // namespace adze::kernels
#endif
