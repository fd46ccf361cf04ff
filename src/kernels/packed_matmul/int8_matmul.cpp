// Rows of x are rounded once a call, to blocks of 32 columns in the order of the panels' quads. Few
// rows then read packed codes straight into integer products (memory bound); many rows first turn a
// panel's codes into bytes, once.

#define HWY_WANT_AVX3_DL

#include "kernels/packed_matmul/int8_matmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/packed_matmul/panel_layout.h"
#include "kernels/packed_matmul/panel_tiles.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/packed_matmul/int8_matmul.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
#include "kernels/packed_matmul/panel_readers-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

using IntegerVector = hn::Vec<Integers>;

// Rows that share an unpacked panel's loads: their sums, 8 quads, scale and offset fill AVX-512's
// 32 registers (with AVX2 the quads stay in the first-level cache).
constexpr int kTileRows = kVectors == 1 ? 16 : 4;
// From here on, unpacking a panel once costs less than at each use.
constexpr int kDirectRows = kVectors == 1 ? 8 : 4;

// Eight quads of codes, a panel's 32 columns.
struct Quads {
  WordVector quads[8];
};

// low and high += the products of the first and the last 16 columns, each by its own chain of
// additions.
#if HWY_TARGET == HWY_AVX3_DL
// The instruction adds the four products of each lane's bytes: codes unsigned, x signed. One
// statement, since compilers put one chain after the other; and no intrinsic, since Highway 1.0.3
// does not turn the instruction's compiler flag on.
template <int bits>
HWY_INLINE void add_products(const Quads& codes,
                             const int32_t* x,
                             IntegerVector& low,
                             IntegerVector& high) {
  const WordVector* quads = codes.quads;
  asm("vpdpbusd (%[x])%{1to16%}, %[q0], %[low]\n\t"
      "vpdpbusd 16(%[x])%{1to16%}, %[q4], %[high]\n\t"
      "vpdpbusd 4(%[x])%{1to16%}, %[q1], %[low]\n\t"
      "vpdpbusd 20(%[x])%{1to16%}, %[q5], %[high]\n\t"
      "vpdpbusd 8(%[x])%{1to16%}, %[q2], %[low]\n\t"
      "vpdpbusd 24(%[x])%{1to16%}, %[q6], %[high]\n\t"
      "vpdpbusd 12(%[x])%{1to16%}, %[q3], %[low]\n\t"
      "vpdpbusd 28(%[x])%{1to16%}, %[q7], %[high]"
      : [low] "+&v"(low.raw), [high] "+&v"(high.raw)
      : [x] "r"(x),
        [q0] "v"(quads[0].raw),
        [q1] "v"(quads[1].raw),
        [q2] "v"(quads[2].raw),
        [q3] "v"(quads[3].raw),
        [q4] "v"(quads[4].raw),
        [q5] "v"(quads[5].raw),
        [q6] "v"(quads[6].raw),
        [q7] "v"(quads[7].raw),
        "m"(*reinterpret_cast<const int32_t(*)[8]>(x)));
}
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
using Shorts = hn::Repartition<int16_t, Words>;
using ShortVector = hn::Vec<Shorts>;
constexpr Shorts kShorts;

// Products of unsigned codes and signed x, neighbours added, in 16 bits.
HWY_INLINE ShortVector multiply_bytes(WordVector codes, WordVector x) {
#if HWY_TARGET == HWY_AVX3
  return ShortVector{_mm512_maddubs_epi16(codes.raw, x.raw)};
#else
  return ShortVector{_mm256_maddubs_epi16(codes.raw, x.raw)};
#endif
}
// Products of 16 bits, neighbours added, in 32.
HWY_INLINE IntegerVector multiply_shorts(ShortVector a, ShortVector b) {
#if HWY_TARGET == HWY_AVX3
  return IntegerVector{_mm512_madd_epi16(a.raw, b.raw)};
#else
  return IntegerVector{_mm256_madd_epi16(a.raw, b.raw)};
#endif
}

// As many quads' sums of two products fit 16 bits: at most 31 or 63 times 127, twice.
template <int bits>
constexpr int kQuadsInShorts = bits <= 5 ? 4 : 2;
static_assert(31 * 127 * 2 * 4 < 32768 && 63 * 127 * 2 * 2 < 32768);

// sum += the products of four quads.
template <int bits>
HWY_INLINE void add_half(const WordVector* codes, const int32_t* x, IntegerVector& sum) {
  const auto x_quad = [x](int quad)
                          HWY_ATTR { return hn::BitCast(kWords, hn::Set(kIntegers, x[quad])); };
  if constexpr (bits == 8) {  // two such products overflow 16 bits: even bytes, then odd ones
    const hn::RebindToUnsigned<Shorts> unsigned_shorts;
    for (int quad = 0; quad < 4; ++quad) {
      const auto bytes = hn::BitCast(unsigned_shorts, codes[quad]);
      const auto even = hn::And(bytes, hn::Set(unsigned_shorts, uint16_t{0xFF}));
      const auto odd = hn::ShiftRight<8>(bytes);
      const auto values = hn::BitCast(kShorts, x_quad(quad));
      const auto even_values = hn::ShiftRight<8>(hn::ShiftLeft<8>(values));
      const auto odd_values = hn::ShiftRight<8>(values);
      sum = hn::Add(sum, multiply_shorts(hn::BitCast(kShorts, even), even_values));
      sum = hn::Add(sum, multiply_shorts(hn::BitCast(kShorts, odd), odd_values));
    }
  } else {
    constexpr int kRun = kQuadsInShorts<bits>;
    const ShortVector ones = hn::Set(kShorts, int16_t{1});
    for (int run = 0; run < 4; run += kRun) {
      ShortVector shorts = multiply_bytes(codes[run], x_quad(run));
      for (int quad = run + 1; quad < run + kRun; ++quad) {
        shorts = hn::Add(shorts, multiply_bytes(codes[quad], x_quad(quad)));
      }
      sum = hn::Add(sum, multiply_shorts(shorts, ones));
    }
  }
}

template <int bits>
HWY_INLINE void add_products(const Quads& codes,
                             const int32_t* x,
                             IntegerVector& low,
                             IntegerVector& high) {
  add_half<bits>(codes.quads, x, low);
  add_half<bits>(codes.quads + 4, x + 4, high);
}
#else
// The definition.
template <int bits>
HWY_INLINE void add_products(const Quads& codes,
                             const int32_t* x,
                             IntegerVector& low,
                             IntegerVector& high) {
  for (int quad = 0; quad < 8; ++quad) {
    IntegerVector& sum = quad < 4 ? low : high;
    for (int j = 0; j < 4; ++j) {
      const auto code =
          hn::And(hn::ShiftRightSame(codes.quads[quad], 8 * j), hn::Set(kWords, 255U));
      const auto word = static_cast<uint32_t>(x[quad]);
      const auto value = hn::Set(kIntegers, static_cast<int8_t>(word >> (8 * j)));
      sum = hn::Add(sum, hn::Mul(hn::BitCast(kIntegers, code), value));
    }
  }
}
#endif

// Columns in the order of quads.
HWY_INLINE void order_quads(const int8_t* codes, int32_t* quads) {
#if HWY_TARGET == HWY_SCALAR
  int8_t ordered[32];
  for (int64_t quad = 0; quad < 8; ++quad) {
    for (int64_t byte = 0; byte < 4; ++byte) {
      ordered[quad * 4 + byte] = codes[quad_column(quad, byte)];
    }
  }
  std::copy_n(ordered, 32, reinterpret_cast<int8_t*>(quads));
#else
  const hn::FixedTag<int8_t, 16> sixteen;
  HWY_ALIGN static constexpr int8_t kOrder[16] = {
      0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
  const auto order = hn::Load(sixteen, kOrder);
  for (int64_t half = 0; half < 2; ++half) {
    const auto natural = hn::LoadU(sixteen, codes + half * 16);
    hn::StoreU(hn::TableLookupBytes(natural, order),
               sixteen,
               reinterpret_cast<int8_t*>(quads) + half * 16);
  }
#endif
}

void round_block(const float* x, RoundedColumns& block) {
  // As integers, magnitudes compare the same, and what is not finite is largest.
  constexpr int32_t kInfinity = 0x7F800000;
  auto largest_bits = hn::Zero(kIntegers);
  for (int64_t i = 0; i < kBlockColumns; i += kLanes) {
    const Vector magnitude = hn::Abs(hn::LoadU(kFloats, x + i));
    largest_bits = hn::Max(largest_bits, hn::BitCast(kIntegers, magnitude));
  }
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(kIntegers, largest_bits));
  const bool finite = bits < kInfinity;
  const auto largest = std::bit_cast<float>(bits);
  block.scale = finite ? largest / 127.0F : NAN;
  const Vector inverse = hn::Set(kFloats, finite && largest > 0 ? 127.0F / largest : 0.0F);
  const hn::Rebind<int8_t, Floats> bytes;
  HWY_ALIGN int8_t codes[kBlockColumns];
  for (int64_t half = 0; half < 2; ++half) {
    auto sum = hn::Zero(kIntegers);
    for (int64_t i = half * 16; i < half * 16 + 16; i += kLanes) {
      // Not a number times zero would still be cast: the mask keeps the cast defined.
      const Vector value = hn::Mul(hn::LoadU(kFloats, x + i), inverse);
      const auto code = hn::NearestInt(finite ? value : hn::Zero(kFloats));
      sum = hn::Add(sum, code);
      hn::StoreU(hn::DemoteTo(bytes, code), bytes, codes + i);
    }
    block.minus_sums[half] = -hn::GetLane(hn::SumOfLanes(kIntegers, sum));
  }
  const auto low_sum = static_cast<float>(-block.minus_sums[0]);
  const auto high_sum = static_cast<float>(-block.minus_sums[1]);
  block.sums[0] = block.scale * low_sum;
  block.sums[1] = block.scale * high_sum;
  block.sums[2] = block.scale * (low_sum + high_sum);
  order_quads(codes, block.quads);
}

void round_rows(const float* x,
                int64_t rows,
                int64_t columns,
                std::vector<RoundedColumns>& rounded) {
  const int64_t blocks = columns / kBlockColumns;
  rounded.resize(static_cast<size_t>(rows * blocks));
  RoundedColumns* target = rounded.data();
  // A few rows are rounded before other threads would have begun.
  const int64_t grain = std::max<int64_t>(1, 16384 / columns);
  core::parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin * blocks; block < end * blocks; ++block) {
      round_block(x + block * kBlockColumns, target[block]);
    }
  });
}

// Of a code as a byte.
template <TensorType type>
constexpr int kByteBits = is_looked_up(type) ? 8 : static_cast<int>(panel_form(type).code_bits);

// A source opens the 32 columns of a block of one panel: quads of codes, scale and minimum of each
// part. Straight from the packed panel:
template <TensorType type>
class PackedSource : public CodeBlock<type> {
 public:
  static constexpr int kParts = scale_parts(type);
  static constexpr int kBits = kByteBits<type>;
  static constexpr int kZeroCode = zero_code(type);

  template <int index>
  HWY_INLINE WordVector quad(int vector) const {
    return this->template quad_of<index % 2>(index / 2, vector);
  }
};

// ... or unpacked: for 32 columns, eight quads of 16 x u32, then 16 x f32 for the scale of each
// part and, if there are any, as many for the minima.
template <int parts, int bits, int zero_code>
class UnpackedSource {
 public:
  static constexpr int kParts = parts;
  static constexpr int kBits = bits;
  static constexpr int kZeroCode = zero_code;
  static constexpr int64_t kBytes = 8 * 64 + (zero_code == 0 ? 2 : 1) * parts * 64;

  HWY_INLINE void open(const uint8_t* unpacked, int64_t block) {
    start_ = unpacked + block * kBytes;
  }
  template <int index>
  HWY_INLINE WordVector quad(int vector) const {
    return load_words(start_ + index * 64, vector);
  }
  HWY_INLINE Vector scale(int part, int vector) const {
    const auto* values = reinterpret_cast<const float*>(start_ + (8 + part) * 64);
    return hn::LoadU(kFloats, values + vector * kLanes);
  }
  HWY_INLINE Vector minimum(int part, int vector) const { return scale(parts + part, vector); }

 private:
  const uint8_t* start_;
};

template <TensorType type>
using Unpacked = UnpackedSource<scale_parts(type), std::max(4, kByteBits<type>), zero_code(type)>;

template <TensorType type>
void unpack_panel(const uint8_t* panel, int64_t columns, uint8_t* unpacked) {
  using Target = Unpacked<type>;
  PackedSource<type> source;
  for (int64_t block = 0; block < columns / kBlockColumns; ++block) {
    source.open(panel, block);
    auto* words = reinterpret_cast<uint32_t*>(unpacked + block * Target::kBytes);
    auto* values = reinterpret_cast<float*>(unpacked + block * Target::kBytes + 8 * 64);
    for (int v = 0; v < kVectors; ++v) {
      const auto store = [&](auto index) HWY_ATTR {
        hn::StoreU(source.template quad<index>(v), kWords, words + index * 16 + v * kLanes);
      };
      store(std::integral_constant<int, 0>());
      store(std::integral_constant<int, 1>());
      store(std::integral_constant<int, 2>());
      store(std::integral_constant<int, 3>());
      store(std::integral_constant<int, 4>());
      store(std::integral_constant<int, 5>());
      store(std::integral_constant<int, 6>());
      store(std::integral_constant<int, 7>());
      constexpr int kParts = scale_parts(type);
      for (int part = 0; part < kParts; ++part) {
        hn::StoreU(source.scale(part, v), kFloats, values + part * 16 + v * kLanes);
        if constexpr (zero_code(type) == 0) {
          hn::StoreU(source.minimum(part, v), kFloats, values + (kParts + part) * 16 + v * kLanes);
        }
      }
    }
  }
}

// kRows rows times one panel. x: [rows, blocks]; rows beyond `rows` repeat the last one and are not
// stored. `next`, if any, is what will be read after this panel, in as many bytes.
template <class Source, int kRows>
HWY_NOINLINE void multiply_panel(const RoundedColumns* x,
                                 int64_t rows,
                                 int64_t blocks,
                                 const uint8_t* panel,
                                 const uint8_t* next,
                                 int64_t next_bytes,
                                 float* y,
                                 int64_t stride,
                                 int64_t valid) {
  Vector sums[kRows][kVectors];
  const RoundedColumns* x_rows[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    x_rows[r] = x + std::min<int64_t>(r, rows - 1) * blocks;
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::Zero(kFloats);
    }
  }
  Source source;
  for (int64_t block = 0; block < blocks; ++block) {
    source.open(panel, block);
    const int64_t fetched = next_bytes * block / blocks;
    for (int64_t byte = fetched; byte < next_bytes * (block + 1) / blocks; byte += 64) {
      fetch_ahead(next + byte);
    }
    for (int v = 0; v < kVectors; ++v) {
      const Quads codes{{source.template quad<0>(v),
                         source.template quad<1>(v),
                         source.template quad<2>(v),
                         source.template quad<3>(v),
                         source.template quad<4>(v),
                         source.template quad<5>(v),
                         source.template quad<6>(v),
                         source.template quad<7>(v)}};
      // weight = scale * (code - zero code), or scale * code + minimum. The former's products of x
      // and the zero code are what the integer sums begin with: the multipliers are the bottleneck.
      constexpr bool kHasMinimum = Source::kZeroCode == 0;
      constexpr int kLast = Source::kParts - 1;
      const Vector first_scale = source.scale(0, v);
      const Vector last_scale = source.scale(kLast, v);
      Vector first_minimum;
      Vector last_minimum;
      if constexpr (kHasMinimum) {
        first_minimum = source.minimum(0, v);
        last_minimum = source.minimum(kLast, v);
      }
#pragma GCC unroll 16  // sums stay in registers
      for (int r = 0; r < kRows; ++r) {
        const RoundedColumns& values = x_rows[r][block];
        const auto start = [&](int half) HWY_ATTR {
          if constexpr (kHasMinimum) {
            return hn::Zero(kIntegers);
          } else {
            constexpr int kShift = std::countr_zero(static_cast<unsigned>(Source::kZeroCode));
            return hn::ShiftLeft<kShift>(hn::Set(kIntegers, values.minus_sums[half]));
          }
        };
        IntegerVector low = start(0);
        IntegerVector high = start(1);
        add_products<Source::kBits>(codes, values.quads, low, high);
        Vector product;
        if constexpr (Source::kParts == 2) {
          product = hn::Mul(hn::ConvertTo(kFloats, low), first_scale);
          product = hn::MulAdd(hn::ConvertTo(kFloats, high), last_scale, product);
        } else {
          product = hn::Mul(hn::ConvertTo(kFloats, hn::Add(low, high)), first_scale);
        }
        Vector sum = hn::MulAdd(product, hn::Set(kFloats, values.scale), sums[r][v]);
        if constexpr (kHasMinimum && Source::kParts == 2) {
          sum = hn::MulAdd(first_minimum, hn::Set(kFloats, values.sums[0]), sum);
          sum = hn::MulAdd(last_minimum, hn::Set(kFloats, values.sums[1]), sum);
        } else if constexpr (kHasMinimum) {
          sum = hn::MulAdd(first_minimum, hn::Set(kFloats, values.sums[2]), sum);
        }
        sums[r][v] = sum;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) {
      break;
    }
    HWY_ALIGN float staged[kPanelRows];
    float* target = valid == kPanelRows ? y + r * stride : staged;
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sums[r][v], kFloats, target + v * kLanes);
    }
    if (target == staged) {
      std::copy_n(staged, valid, y + r * stride);
    }
  }
}

// A panel of an output, and where its products go.
struct PanelPlace {
  const uint8_t* panel;
  int64_t bytes;
  float* y;
  int64_t stride;
  int64_t valid;  // outputs that exist

  PanelPlace(const MatmulOutput& output, int64_t index)
      : bytes(panel_bytes(output.weight.type, output.weight.columns)),
        y(output.y + index * kPanelRows),
        stride(output.stride),
        valid(std::min(kPanelRows, output.weight.outputs - index * kPanelRows)) {
    panel = reinterpret_cast<const uint8_t*>(output.weight.panels) + index * bytes;
  }
};

template <TensorType type>
void direct_panel(const RoundedColumns* x, int64_t rows, int64_t blocks, const PanelPlace& place) {
  const auto run = [&](auto count) {
    multiply_panel<PackedSource<type>, count.value>(x,
                                                    rows,
                                                    blocks,
                                                    place.panel,
                                                    place.panel + place.bytes,
                                                    place.bytes,
                                                    place.y,
                                                    place.stride,
                                                    place.valid);
  };
  if (rows == 1) {
    run(std::integral_constant<int, 1>());
  } else if (rows == 2) {
    run(std::integral_constant<int, 2>());
  } else if (rows <= 4) {
    run(std::integral_constant<int, 4>());
  } else {
    run(std::integral_constant<int, kDirectRows>());
  }
}

template <TensorType type>
void unpacked_panel(const RoundedColumns* x,
                    int64_t rows,
                    int64_t blocks,
                    const PanelPlace& place,
                    std::vector<uint8_t>& memory) {
  using Source = Unpacked<type>;
  memory.resize(static_cast<size_t>(blocks * Source::kBytes));
  unpack_panel<type>(place.panel, blocks * kBlockColumns, memory.data());
  int64_t row = 0;
  const auto run = [&](auto count) {
    multiply_panel<Source, count.value>(x + row * blocks,
                                        rows - row,
                                        blocks,
                                        memory.data(),
                                        nullptr,
                                        0,
                                        place.y + row * place.stride,
                                        place.stride,
                                        place.valid);
    row += count.value;
  };
  while (rows - row > kTileRows / 2) {
    run(std::integral_constant<int, kTileRows>());
  }
  while (row < rows) {
    run(std::integral_constant<int, kTileRows / 2>());
  }
}

void matmul(const float* x,
            int64_t rows,
            int64_t columns,
            std::span<const MatmulOutput> outputs,
            std::vector<RoundedColumns>& rounded) {
  const int64_t blocks = columns / kBlockColumns;
  round_rows(x, rows, columns, rounded);
  const RoundedColumns* x_blocks = rounded.data();
  for_panels(outputs, 1, [&](const MatmulOutput& output, int64_t begin, int64_t end) {
    static thread_local std::vector<uint8_t> memory;
    with_code_type(output.weight.type, [&](auto type) {
      for (int64_t panel = begin; panel < end; ++panel) {
        const PanelPlace place(output, panel);
        if (rows <= kDirectRows) {
          direct_panel<type.value>(x_blocks, rows, blocks, place);
        } else {
          unpacked_panel<type.value>(x_blocks, rows, blocks, place, memory);
        }
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

void int8_matmul(const float* x,
                 int64_t rows,
                 int64_t columns,
                 std::span<const MatmulOutput> outputs) {
  static thread_local std::vector<RoundedColumns> rounded;
  HWY_DYNAMIC_DISPATCH(matmul)(x, rows, columns, outputs, rounded);
}

}  // namespace adze::kernels
#endif
