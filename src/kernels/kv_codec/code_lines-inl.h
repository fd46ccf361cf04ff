// Codes as vectors of floats, and rows times lines of codes. Include after
// <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_CODE_LINES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_CODE_LINES_INL_H
#undef ADZE_KERNELS_CODE_LINES_INL_H
#else
#define ADZE_KERNELS_CODE_LINES_INL_H
#endif

#include <algorithm>
#include <array>
#include <type_traits>

#include "core/check.h"
#include "kernels/kv_codec/code_lines.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

constexpr int kLineVectors = static_cast<int>(kLineCodes) / kLanes;
constexpr int kHalfLine = kLineVectors / 2;

template <class Body>
HWY_INLINE void with_bits(int64_t bits, Body&& body) {
  switch (bits) {
    case 1:
      return body(std::integral_constant<int, 1>());
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
      core::check(false, "1 to 6 or 8 bits, got ", bits);
  }
}

// Where the codes of a line lie in the words of its vectors, by places. A code is not moved to bit
// 0 but masked where it is: as a number it comes out times a power of two, which sums take along
// exactly and lose in the end. That spares a shift or two for each vector of codes.
template <int kBits>
struct LinePlaces {
  static constexpr bool kShifts = kBits == 8;  // its last code would be the sign of its word
  static constexpr bool kScales = HWY_MAX_BYTES >= 32 && !kShifts;
  static constexpr int first_bit(int place) {
    const bool odd_lane = place % 2 == 1;
    return place / 8 * kBits + (kBits != 1 && kBits % 2 == 1 && odd_lane ? 4 : 0);
  }
  template <class Element, class Function>
  static constexpr std::array<Element, kLineCodes> by_place(Function&& function) {
    std::array<Element, kLineCodes> result{};
    for (int place = 0; place < kLineCodes; ++place) {
      result[static_cast<size_t>(place)] = function(first_bit(place));
    }
    return result;
  }

  alignas(64) std::array<uint32_t, kLineCodes> mask = by_place<uint32_t>([](int bit) {
    return ((1U << kBits) - 1) << (kShifts ? 0 : bit);
  });
  alignas(64) std::array<uint32_t, kLineCodes> shift = by_place<uint32_t>([](int bit) {
    return static_cast<uint32_t>(bit);
  });
  alignas(64) std::array<float, kLineCodes> power = by_place<float>([](int bit) {
    return static_cast<float>(1U << bit);
  });
  alignas(64) std::array<float, kLineCodes> inverse = by_place<float>([](int bit) {
    return 1 / static_cast<float>(1U << bit);
  });
};
template <int kBits>
inline constexpr LinePlaces<kBits> kLinePlaces;

#if HWY_MAX_BYTES >= 32

using EightWords = hn::CappedTag<uint32_t, 8>;
using Words = hn::RebindToUnsigned<Floats>;

// The 4 * kBits bits of each of eight lanes, above them whatever follows; of odd widths from 3 on
// every second lane begins four bits later.
template <int kBits>
HWY_INLINE hn::Vec<EightWords> eight_words(const std::byte* line) {
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
  } else if constexpr (kBits == 1) {
    alignas(32) static constexpr uint32_t kShifts[8] = {0, 4, 8, 12, 16, 20, 24, 28};
    uint32_t all;
    hwy::CopyBytes<4>(bytes, &all);
    return hn::Shr(hn::Set(words, all), hn::Load(words, hidden(kShifts)));
  } else {
    // Lanes 0 .. 3 are in the first 2 * kBits bytes, 4 .. 7 in the others; a shuffle brings each
    // lane its bytes.
    const hn::Repartition<uint8_t, EightWords> d;
    const hn::Half<decltype(d)> half;
    constexpr int kSkip = kBits == 3 ? 0 : 4 * kBits - 16;  // never reads before the line
    hn::Vec<decltype(d)> source;
    if constexpr (kSkip == 0) {
      source = hn::LoadDup128(d, bytes);
    } else {
      source = hn::Combine(d, hn::LoadU(half, bytes + kSkip), hn::LoadU(half, bytes));
    }
    alignas(32) static constexpr auto kSources = [] {
      std::array<uint8_t, 32> sources{};
      for (int i = 0; i < 8; ++i) {
        for (int byte = 0; byte < 4; ++byte) {
          const int first = 4 * kBits * i / 8 - (i < 4 ? 0 : kSkip);
          sources[static_cast<size_t>(4 * i + byte)] =
              static_cast<uint8_t>(byte < 3 ? first + byte : 0x80);
        }
      }
      return sources;
    }();
    return hn::BitCast(words, hn::TableLookupBytes(source, hn::Load(d, hidden(kSources.data()))));
  }
}

template <int kBits>
HWY_INLINE hn::Vec<Words> line_words(const std::byte* line) {
  const auto eight = eight_words<kBits>(line);
#if HWY_MAX_BYTES == 64
  return hn::Combine(Words(), eight, eight);
#else
  return eight;
#endif
}

// Vector `v` of a line's codes, times the power of its places.
template <int kBits>
HWY_INLINE Vector line_codes(hn::Vec<Words> words, int v, const LinePlaces<kBits>* places) {
  if constexpr (LinePlaces<kBits>::kShifts) {
    words = hn::Shr(words, hn::Load(Words(), places->shift.data() + v * kLanes));
  }
  const auto code = hn::And(words, hn::Load(Words(), places->mask.data() + v * kLanes));
  return hn::ConvertTo(kFloats, hn::BitCast(hn::RebindToSigned<Floats>(), code));
}

#else  // vectors of fewer lanes: correct, slow

template <int kBits>
HWY_INLINE std::array<float, kLineCodes> line_words(const std::byte* line) {
  uint8_t codes[kLineCodes];
  unpack_line(kBits, line, codes);
  std::array<float, kLineCodes> words;
  std::copy_n(codes, kLineCodes, words.begin());
  return words;
}
template <int kBits>
HWY_INLINE Vector line_codes(const std::array<float, kLineCodes>& words,
                             int v,
                             const LinePlaces<kBits>* /*places*/) {
  return hn::LoadU(kFloats, words.data() + v * kLanes);
}

#endif

// Calls body(first place, codes) for the vectors of a line.
template <int kBits, class Body>
HWY_INLINE void for_line(const std::byte* line, Body&& body) {
  const LinePlaces<kBits>* places = &kLinePlaces<kBits>;
  const auto words = line_words<kBits>(line);
  for (int v = 0; v < kLineVectors; ++v) {
    Vector codes = line_codes(words, v, places);
    if constexpr (LinePlaces<kBits>::kScales) {
      codes = hn::Mul(codes, hn::Load(kFloats, places->inverse.data() + v * kLanes));
    }
    body(v * kLanes, codes);
  }
}

// sums [kRows, 32] (+)= a [kRows, count] times the codes of `count` lines, summed in rising order.
template <int kBits, int kRows>
HWY_INLINE void multiply_run(const std::byte* HWY_RESTRICT lines,
                             int64_t count,
                             const float* HWY_RESTRICT a,
                             int64_t a_stride,
                             bool resume,
                             float* HWY_RESTRICT sums,
                             int64_t sums_stride) {
  const auto scaled = [](const Vector sum, const auto& scales, int v) HWY_ATTR {
    return LinePlaces<kBits>::kScales ? hn::Mul(sum, hn::Load(kFloats, scales.data() + v * kLanes))
                                      : sum;
  };
  Vector totals[kRows][kLineVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kLineVectors; ++v) {
      totals[r][v] = resume ? scaled(hn::LoadU(kFloats, sums + r * sums_stride + v * kLanes),
                                     kLinePlaces<kBits>.power,
                                     v)
                            : hn::Zero(kFloats);
    }
  }
  // Three rows' sums take 12 of AVX2's 16 registers. The codes of half a line, its words and one
  // factor are all that fits beside them; so the second half loads its factors again.
  const auto add =
      [&](auto second, const auto& words, const float* factors, const auto* places) HWY_ATTR {
        constexpr int kFirst = second.value ? kHalfLine : 0;
        Vector codes[kHalfLine];
        for (int v = 0; v < kHalfLine; ++v) {
          codes[v] = line_codes(words, kFirst + v, places);
        }
        for (int r = 0; r < kRows; ++r) {
          const Vector factor = hn::Set(kFloats, factors[r * a_stride]);
          for (int v = 0; v < kHalfLine; ++v) {
            totals[r][kFirst + v] = hn::MulAdd(factor, codes[v], totals[r][kFirst + v]);
          }
        }
      };
  for (int64_t line = 0; line < count; ++line) {
    const auto words = line_words<kBits>(lines + line * line_bytes(kBits));
    const auto* places = hidden(&kLinePlaces<kBits>);
    add(std::false_type(), words, a + line, places);
    add(std::true_type(), words, hidden(a + line), places);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kLineVectors; ++v) {
      hn::StoreU(scaled(totals[r][v], kLinePlaces<kBits>.inverse, v),
                 kFloats,
                 sums + r * sums_stride + v * kLanes);
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
               float* target = tile + (begin - first + line) * kLineCodes;
               for_line<width.value>(lines + line * line_bytes(width.value),
                                     [&](int place, const Vector codes)
                                         HWY_ATTR { hn::StoreU(codes, kFloats, target + place); });
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
