// Codes as vectors of floats, and rows times lines of codes. Include after
// <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_CODE_LINES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_CODE_LINES_INL_H
#undef ADZE_KERNELS_CODE_LINES_INL_H
#else
#define ADZE_KERNELS_CODE_LINES_INL_H
#endif

#include <array>
#include <type_traits>

#include "core/check.h"
#include "kernels/kv_codec/code_lines.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

constexpr int kLineVectors = static_cast<int>(kLineCodes) / kLanes;

template <class Body>
HWY_INLINE void with_bits(int64_t bits, Body&& body) {
  switch (bits) {
    case 2:
      return body(std::integral_constant<int, 2>());
    case 3:
      return body(std::integral_constant<int, 3>());
    case 4:
      return body(std::integral_constant<int, 4>());
    case 5:
      return body(std::integral_constant<int, 5>());
    case 6:
      return body(std::integral_constant<int, 6>());
    case 8:
      return body(std::integral_constant<int, 8>());
    default:
      core::check(false, "2, 3, 4, 5, 6 or 8 bits, got ", bits);
  }
}

#if HWY_MAX_BYTES >= 32

using EightWords = hn::CappedTag<uint32_t, 8>;

// The 4 * kBits bits of each lane, above them whatever follows.
template <int kBits>
HWY_INLINE hn::Vec<EightWords> line_words(const std::byte* line) {
  const EightWords words;
  const auto* bytes = reinterpret_cast<const uint8_t*>(line);
  if constexpr (kBits == 8) {
    return hn::LoadU(words, reinterpret_cast<const uint32_t*>(line));
  } else if constexpr (kBits == 4) {
    const hn::Rebind<uint16_t, EightWords> halves;
    return hn::PromoteTo(words, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(line)));
  } else if constexpr (kBits == 2) {
    const hn::Rebind<uint8_t, EightWords> quarters;
    return hn::PromoteTo(words, hn::LoadU(quarters, bytes));
  } else {
    // Lanes 0 .. 3 are in the first 2 * kBits bytes, 4 .. 7 in the others; a shuffle brings each
    // lane its bytes, and of an odd width every second lane begins in the middle of one.
    const hn::Repartition<uint8_t, EightWords> d;
    const hn::Half<decltype(d)> half;
    constexpr int kSkip = kBits == 3 ? 0 : 4 * kBits - 16;  // never reads before the line
    hn::Vec<decltype(d)> source;
    if constexpr (kSkip == 0) {
      source = hn::LoadDup128(d, bytes);
    } else {
      source = hn::Combine(d, hn::LoadU(half, bytes + kSkip), hn::LoadU(half, bytes));
    }
    alignas(32) static constexpr auto kPlaces = [] {
      std::array<uint8_t, 32> places{};
      for (int i = 0; i < 8; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          const int first = 4 * kBits * i / 8 - (i < 4 ? 0 : kSkip);
          places[static_cast<size_t>(4 * i + byte)] =
              static_cast<uint8_t>(byte < 3 ? first + byte : 0x80);
        }
      }
      return places;
    }();
    const auto gathered = hn::TableLookupBytes(source, hn::Load(d, kPlaces.data()));
    if constexpr (kBits % 2 == 0) {
      return hn::BitCast(words, gathered);
    } else {
      alignas(32) static constexpr uint32_t kShifts[8] = {0, 4, 0, 4, 0, 4, 0, 4};
      return hn::Shr(hn::BitCast(words, gathered), hn::Load(words, kShifts));
    }
  }
}

// The codes of a line in their order.
template <int kBits>
HWY_INLINE void line_floats(const std::byte* line, Vector (&codes)[kLineVectors]) {
  const auto words = line_words<kBits>(line);
  const hn::RebindToSigned<Floats> integers;
  if constexpr (kLanes == 8) {
    const auto mask = hn::Set(EightWords(), (1U << kBits) - 1);
    const auto put = [&](auto place) HWY_ATTR {
      constexpr int kShift = place.value * kBits;
      // Nothing is above the last code where the lanes were cut at its end.
      constexpr bool kClean = place.value == 3 && kBits != 3 && kBits != 5;
      auto code = hn::ShiftRight<kShift>(words);
      if constexpr (!kClean) {
        code = hn::And(code, mask);
      }
      codes[place.value] = hn::ConvertTo(kFloats, hn::BitCast(integers, code));
    };
    put(std::integral_constant<int, 0>());
    put(std::integral_constant<int, 1>());
    put(std::integral_constant<int, 2>());
    put(std::integral_constant<int, 3>());
  } else {
    const hn::RebindToUnsigned<Floats> wide;
    const auto both = hn::Combine(wide, words, words);
    const auto mask = hn::Set(wide, (1U << kBits) - 1);
    alignas(64) static constexpr auto kShifts = [] {
      std::array<uint32_t, 32> shifts{};
      for (size_t n = 0; n < 32; ++n) {
        shifts[n] = static_cast<uint32_t>(n / 8 * kBits);
      }
      return shifts;
    }();
    for (int v = 0; v < kLineVectors; ++v) {
      const auto code = hn::And(hn::Shr(both, hn::Load(wide, kShifts.data() + v * kLanes)), mask);
      codes[v] = hn::ConvertTo(kFloats, hn::BitCast(integers, code));
    }
  }
}

#else  // vectors of 4 lanes: correct, slow

template <int kBits>
HWY_INLINE void line_floats(const std::byte* line, Vector (&codes)[kLineVectors]) {
  uint8_t bytes[kLineCodes];
  unpack_line(kBits, line, bytes);
  HWY_ALIGN float floats[kLineCodes];
  for (int64_t n = 0; n < kLineCodes; ++n) {
    floats[n] = static_cast<float>(bytes[n]);
  }
  for (int v = 0; v < kLineVectors; ++v) {
    codes[v] = hn::Load(kFloats, floats + v * kLanes);
  }
}

#endif

// sums [kRows, 32] (+)= a [kRows, count] times the codes of `count` lines, summed in rising order.
template <int kBits, int kRows>
HWY_INLINE void multiply_run(const std::byte* HWY_RESTRICT lines,
                             int64_t count,
                             const float* HWY_RESTRICT a,
                             int64_t a_stride,
                             bool resume,
                             float* HWY_RESTRICT sums,
                             int64_t sums_stride) {
  Vector totals[kRows][kLineVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kLineVectors; ++v) {
      totals[r][v] =
          resume ? hn::LoadU(kFloats, sums + r * sums_stride + v * kLanes) : hn::Zero(kFloats);
    }
  }
  for (int64_t line = 0; line < count; ++line) {
    Vector codes[kLineVectors];
    line_floats<kBits>(lines + line * line_bytes(kBits), codes);
    for (int r = 0; r < kRows; ++r) {
      const Vector value = hn::Set(kFloats, a[r * a_stride + line]);
      for (int v = 0; v < kLineVectors; ++v) {
        totals[r][v] = hn::MulAdd(value, codes[v], totals[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kLineVectors; ++v) {
      hn::StoreU(totals[r][v], kFloats, sums + r * sums_stride + v * kLanes);
    }
  }
}

// Calls body(width, first line, their bytes, count) for each run within lines [first, first +
// count) of a part.
template <class Body>
HWY_INLINE void for_runs(const CodedPart& part, int64_t first, int64_t count, Body&& body) {
  const std::byte* lines = part.lines;
  int64_t line = 0;  // of the run's beginning
  for (int64_t i = 0; i < part.num_runs && line < first + count; ++i) {
    const auto [bits, length] = part.runs[static_cast<size_t>(i)];
    const int64_t begin = line > first ? line : first;
    const int64_t end = line + length < first + count ? line + length : first + count;
    if (begin < end) {
      with_bits(bits, [&](auto width) HWY_ATTR {
        body(width, begin, lines + (begin - line) * line_bytes(width.value), end - begin);
      });
    }
    lines += length * line_bytes(bits);
    line += length;
  }
}

// Codes [count, 32] of lines [first, first + count) as floats.
HWY_INLINE void line_tile(const CodedPart& part, int64_t first, int64_t count, float* tile) {
  for_runs(part,
           first,
           count,
           [&](auto width, int64_t begin, const std::byte* lines, int64_t length) HWY_ATTR {
             for (int64_t line = 0; line < length; ++line) {
               Vector codes[kLineVectors];
               line_floats<width.value>(lines + line * line_bytes(width.value), codes);
               float* target = tile + (begin - first + line) * kLineCodes;
               for (int v = 0; v < kLineVectors; ++v) {
                 hn::StoreU(codes[v], kFloats, target + v * kLanes);
               }
             }
           });
}

// sums [rows, 32] = a [rows, count] times the codes of lines [first, first + count); up to 3 rows,
// whose sums stay in registers. The bits are those of line_tile's floats multiplied.
HWY_INLINE void multiply_codes(const CodedPart& part,
                               int64_t first,
                               int64_t count,
                               int64_t rows,
                               const float* a,
                               int64_t a_stride,
                               float* sums,
                               int64_t sums_stride) {
  const auto run = [&](auto all_rows) HWY_ATTR {
    for_runs(part,
             first,
             count,
             [&](auto width, int64_t begin, const std::byte* lines, int64_t length) HWY_ATTR {
               multiply_run<width.value, all_rows.value>(
                   lines, length, a + begin - first, a_stride, begin > first, sums, sums_stride);
             });
  };
  switch (rows) {
    case 1:
      return run(std::integral_constant<int, 1>());
    case 2:
      return run(std::integral_constant<int, 2>());
    default:
      return run(std::integral_constant<int, 3>());
  }
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
