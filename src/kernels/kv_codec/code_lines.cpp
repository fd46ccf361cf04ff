#include "kernels/kv_codec/code_lines.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_codec/code_lines.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

#ifndef ADZE_KERNELS_CODE_LINES_UNPACK
#define ADZE_KERNELS_CODE_LINES_UNPACK
namespace adze::kernels {
namespace {

inline uint64_t word(const std::byte* address) {
  uint64_t value;
  std::memcpy(&value, address, 8);
  return value;
}

template <int kBits>
inline void unpack(const std::byte* line, uint8_t* codes) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  uint64_t words[4];
  if constexpr (kBits == 8) {
    std::memcpy(words, line, 32);
  } else {
    constexpr int kLow = kBits < 4 ? 2 : 4;
    if constexpr (kLow == 4) {
      const uint64_t low = word(line);
      const uint64_t high = word(line + 8);
      words[0] = low & (15 * kOnes);
      words[1] = high & (15 * kOnes);
      words[2] = (low >> 4) & (15 * kOnes);
      words[3] = (high >> 4) & (15 * kOnes);
    } else {
      const uint64_t pairs = word(line);
      for (int j = 0; j < 4; ++j) {
        words[j] = (pairs >> (2 * j)) & (3 * kOnes);
      }
    }
    if constexpr (kBits - kLow == 1) {
      uint32_t halves;
      std::memcpy(&halves, line + 4 * kLow, 4);
      const uint64_t high =
          (halves & 0x0F0F0F0F) | static_cast<uint64_t>((halves >> 4) & 0x0F0F0F0F) << 32;
      for (int j = 0; j < 4; ++j) {
        words[j] |= ((high >> j) & kOnes) << kLow;
      }
    } else if constexpr (kBits - kLow == 2) {
      const uint64_t pairs = word(line + 4 * kLow);
      for (int j = 0; j < 4; ++j) {
        words[j] |= ((pairs >> (2 * j)) & (3 * kOnes)) << kLow;
      }
    }
  }
  std::memcpy(codes, words, 32);
}

template <class Body>
inline void with_bits(int64_t bits, Body&& body) {
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

}  // namespace
}  // namespace adze::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

HWY_INLINE Vector code_floats(const uint8_t* codes) {
  const hn::Rebind<uint8_t, Floats> bytes;
  const hn::RebindToSigned<Floats> integers;
  return hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, codes)));
}

void lines(
    int64_t bits, const std::byte* lines, const uint16_t* scales, int64_t count, float* numbers) {
  constexpr int64_t kPairs = 32;  // scales and zeros that are converted together
  const hn::Rebind<hwy::float16_t, Floats> halves;
  HWY_ALIGN float pairs[2 * kPairs];
  with_bits(bits, [&](auto width) HWY_ATTR {
    HWY_ALIGN uint8_t codes[kLineCodes];
    for (int64_t line = 0; line < count; ++line) {
      const int64_t place = line % kPairs;
      if (place == 0) {
        const auto* source = reinterpret_cast<const hwy::float16_t*>(scales + 2 * line);
        const int64_t left = 2 * std::min(kPairs, count - line);
        for (int64_t i = 0; i < left; i += kLanes) {
          hn::StoreU(hn::PromoteTo(kFloats, hn::LoadU(halves, source + i)), kFloats, pairs + i);
        }
      }
      unpack<width.value>(lines + line * line_bytes(width.value), codes);
      const Vector scale = hn::Set(kFloats, pairs[2 * place]);
      const Vector zero = hn::Set(kFloats, pairs[2 * place + 1]);
      for (int64_t i = 0; i < kLineCodes; i += kLanes) {
        hn::StoreU(hn::MulAdd(code_floats(codes + i), scale, zero),
                   kFloats,
                   numbers + line * kLineCodes + i);
      }
    }
  });
}

void lines_to(int64_t bits,
              const std::byte* lines,
              const float* scale,
              const float* zero,
              const uint8_t* rows,
              int64_t count,
              float* numbers) {
  with_bits(bits, [&](auto width) HWY_ATTR {
    HWY_ALIGN uint8_t codes[kLineCodes];
    for (int64_t line = 0; line < count; ++line) {
      unpack<width.value>(lines + line * line_bytes(width.value), codes);
      const Vector step = hn::Set(kFloats, scale[line]);
      const Vector least = hn::Set(kFloats, zero[line]);
      float* target = numbers + rows[line] * kLineCodes;
      for (int64_t i = 0; i < kLineCodes; i += kLanes) {
        hn::StoreU(hn::MulAdd(code_floats(codes + i), step, least), kFloats, target + i);
      }
    }
  });
}

void lines_by_place(int64_t bits,
                    const std::byte* lines,
                    const float* scale,
                    const float* zero,
                    int64_t period,
                    int64_t count,
                    float* numbers) {
  with_bits(bits, [&](auto width) HWY_ATTR {
    HWY_ALIGN uint8_t codes[kLineCodes];
    for (int64_t line = 0; line < count; ++line) {
      unpack<width.value>(lines + line * line_bytes(width.value), codes);
      const int64_t place = line % period * kLineCodes;
      for (int64_t i = 0; i < kLineCodes; i += kLanes) {
        hn::StoreU(hn::MulAdd(code_floats(codes + i),
                              hn::LoadU(kFloats, scale + place + i),
                              hn::LoadU(kFloats, zero + place + i)),
                   kFloats,
                   numbers + line * kLineCodes + i);
      }
    }
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {
HWY_EXPORT(lines);
HWY_EXPORT(lines_to);
HWY_EXPORT(lines_by_place);
}  // namespace

void pack_line(int64_t bits, const uint8_t* codes, std::byte* line) {
  std::memset(line, 0, static_cast<size_t>(line_bytes(bits)));
  for (int64_t n = 0; n < kLineCodes; ++n) {
    const auto code = static_cast<unsigned>(codes[n]);
    const int64_t i = n % 8;
    const auto j = static_cast<unsigned>(n / 8);
    const auto put = [line](int64_t place, unsigned value) {
      line[place] |= static_cast<std::byte>(value);
    };
    if (bits == 8) {
      put(n, code);
      continue;
    }
    const int64_t low = bits < 4 ? 2 : 4;
    if (low == 4) {
      put(n % 16, (code & 15) << (n < 16 ? 0 : 4));
    } else {
      put(i, (code & 3) << (2 * j));
    }
    if (bits - low == 1) {
      put(4 * low + i % 4, (code >> low) << (j + (i < 4 ? 0U : 4U)));
    } else if (bits - low == 2) {
      put(4 * low + i, (code >> low) << (2 * j));
    }
  }
}

void unpack_line(int64_t bits, const std::byte* line, uint8_t* codes) {
  with_bits(bits, [&](auto width) { unpack<width.value>(line, codes); });
}

void decode_lines(
    int64_t bits, const std::byte* lines, const uint16_t* scales, int64_t count, float* numbers) {
  HWY_DYNAMIC_DISPATCH(lines)(bits, lines, scales, count, numbers);
}

void decode_lines_to(int64_t bits,
                     const std::byte* lines,
                     const float* scale,
                     const float* zero,
                     const uint8_t* rows,
                     int64_t count,
                     float* numbers) {
  HWY_DYNAMIC_DISPATCH(lines_to)(bits, lines, scale, zero, rows, count, numbers);
}

void decode_lines_by_place(int64_t bits,
                           const std::byte* lines,
                           const float* scale,
                           const float* zero,
                           int64_t period,
                           int64_t count,
                           float* numbers) {
  HWY_DYNAMIC_DISPATCH(lines_by_place)(bits, lines, scale, zero, period, count, numbers);
}

void encode_line(int64_t bits, const float* numbers, uint16_t* scale_and_zero, std::byte* line) {
  const auto [least, most] = std::minmax_element(numbers, numbers + kLineCodes);
  const auto steps = static_cast<float>((1 << bits) - 1);
  scale_and_zero[0] = core::half_from_float((*most - *least) / steps);
  scale_and_zero[1] = core::half_from_float(*least);
  const float scale = core::float_from_half(scale_and_zero[0]);
  const float zero = core::float_from_half(scale_and_zero[1]);
  uint8_t codes[kLineCodes];
  for (int64_t n = 0; n < kLineCodes; ++n) {
    const float code = scale > 0 ? std::nearbyint((numbers[n] - zero) / scale) : 0.0F;
    codes[n] = code > 0 ? static_cast<uint8_t>(std::min(code, steps)) : uint8_t{0};  // NaN: 0
  }
  pack_line(bits, codes, line);
}

}  // namespace adze::kernels
#endif
