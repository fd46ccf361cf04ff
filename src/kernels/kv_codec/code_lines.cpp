#include "kernels/kv_codec/code_lines.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kv_codec/code_lines.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/kv_codec/code_lines-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Numbers of lines [first, first + count); the first `places` of line n go to numbers + n * stride.
void decode_panel(const CodedPart& part,
                  int64_t first,
                  int64_t count,
                  int64_t places,
                  int64_t stride,
                  float* numbers) {
  for_runs(part,
           first,
           count,
           [&](auto width, int64_t begin, const std::byte* lines, int64_t length) HWY_ATTR {
             for (int64_t line = begin; line < begin + length; ++line) {
               float* target = numbers + (line - first) * stride;
               for_line<width.value>(
                   lines + (line - begin) * line_bytes(width.value),
                   [&](int place, const Vector codes) HWY_ATTR {
                     if (place < places) {
                       // A panel's first line is its first place.
                       const Vector scale = part.by_line
                                                ? hn::Set(kFloats, part.scale[line])
                                                : hn::LoadU(kFloats, part.scale + first + place);
                       const Vector zero = part.by_line
                                               ? hn::Set(kFloats, part.zero[line])
                                               : hn::LoadU(kFloats, part.zero + first + place);
                       hn::StoreU(hn::MulAdd(codes, scale, zero), kFloats, target + place);
                     }
                   });
             }
           });
}

void byte_scales(const uint8_t* codes, const float* units, int64_t count, float* scales) {
  const hn::RebindToUnsigned<Floats> words;
  const hn::Rebind<uint8_t, Floats> bytes;
  const auto bias = hn::Set(words, uint32_t{119} << 23);
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto code = hn::PromoteTo(words, hn::LoadU(bytes, codes + i));
    const Vector scale = hn::BitCast(kFloats, hn::Add(hn::ShiftLeft<19>(code), bias));
    hn::StoreU(hn::Mul(scale, hn::LoadU(kFloats, units + i)), kFloats, scales + i);
  }
}

void byte_zeros(
    const int8_t* codes, const float* steps, const float* means, int64_t count, float* zeros) {
  const hn::RebindToSigned<Floats> integers;
  const hn::Rebind<int8_t, Floats> bytes;
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vector code =
        hn::ConvertTo(kFloats, hn::PromoteTo(integers, hn::LoadU(bytes, codes + i)));
    const Vector mean = means == nullptr ? hn::Zero(kFloats) : hn::LoadU(kFloats, means + i);
    hn::StoreU(hn::MulAdd(code, hn::LoadU(kFloats, steps + i), mean), kFloats, zeros + i);
  }
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {

HWY_EXPORT(decode_panel);
HWY_EXPORT(byte_scales);
HWY_EXPORT(byte_zeros);

// First bit of code n within its line.
int64_t first_bit(int64_t bits, int64_t n) {
  return bits * (4 * (n % 8) + n / 8);
}

}  // namespace

void pack_line(int64_t bits, const uint8_t* codes, std::byte* line) {
  std::memset(line, 0, static_cast<size_t>(line_bytes(bits)));
  for (int64_t n = 0; n < kLineCodes; ++n) {
    const int64_t first = first_bit(bits, n);
    const unsigned code = static_cast<unsigned>(codes[n]) << (first % 8);
    line[first / 8] |= static_cast<std::byte>(code);
    if (first % 8 + bits > 8) {
      line[first / 8 + 1] |= static_cast<std::byte>(code >> 8);
    }
  }
}

void unpack_line(int64_t bits, const std::byte* line, uint8_t* codes) {
  for (int64_t n = 0; n < kLineCodes; ++n) {
    const int64_t first = first_bit(bits, n);
    auto word = static_cast<unsigned>(line[first / 8]);
    if (first % 8 + bits > 8) {
      word |= static_cast<unsigned>(line[first / 8 + 1]) << 8;
    }
    codes[n] = static_cast<uint8_t>(word >> (first % 8) & ((1U << bits) - 1));
  }
}

void pack_key_lines(int64_t bits, const uint8_t* codes, int64_t count, std::byte* lines) {
  for (int64_t line = 0; line < count; ++line) {
    pack_line(bits, codes + line * kLineCodes, lines + line * line_bytes(bits));
  }
}

void pack_value_lines(int64_t bits, const uint8_t* codes, int64_t head_dim, std::byte* lines) {
  for (int64_t panel = 0; panel < value_panels(head_dim); ++panel) {
    const int64_t first = panel * kLineCodes;
    for (int64_t token = 0; token < kLineCodes; ++token) {
      uint8_t line[kLineCodes] = {};
      std::copy_n(codes + token * head_dim + first, std::min(kLineCodes, head_dim - first), line);
      pack_line(bits, line, lines + (first + token) * line_bytes(bits));
    }
  }
}

void decode_keys(const CodedPart& part, int64_t head_dim, float* keys) {
  HWY_DYNAMIC_DISPATCH(decode_panel)(part, 0, head_dim, kLineCodes, kLineCodes, keys);
}

void decode_values(const CodedPart& part, int64_t head_dim, float* values) {
  for (int64_t first = 0; first < head_dim; first += kLineCodes) {
    HWY_DYNAMIC_DISPATCH(decode_panel)
    (part, first, kLineCodes, std::min(kLineCodes, head_dim - first), head_dim, values + first);
  }
}

RoundedGroup round_group(
    int64_t bits, const float* numbers, int64_t count, int64_t stride, uint8_t* codes) {
  float least = numbers[0];
  float most = numbers[0];
  for (int64_t i = 1; i < count; ++i) {
    least = std::min(least, numbers[i * stride]);
    most = std::max(most, numbers[i * stride]);
  }
  const auto steps = static_cast<float>((1 << bits) - 1);
  const RoundedGroup group{core::half_from_float((most - least) / steps),
                           core::half_from_float(least)};
  const float scale = core::float_from_half(group.scale);
  const float zero = core::float_from_half(group.zero);
  for (int64_t i = 0; i < count; ++i) {
    const float code = scale > 0 ? std::nearbyint((numbers[i * stride] - zero) / scale) : 0.0F;
    codes[i * stride] =
        code > 0 ? static_cast<uint8_t>(std::min(code, steps)) : uint8_t{0};  // NaN: 0
  }
  return group;
}

void scales_from_bytes(const uint8_t* codes, const float* units, int64_t count, float* scales) {
  HWY_DYNAMIC_DISPATCH(byte_scales)(codes, units, count, scales);
}

void zeros_from_bytes(
    const int8_t* codes, const float* steps, const float* means, int64_t count, float* zeros) {
  HWY_DYNAMIC_DISPATCH(byte_zeros)(codes, steps, means, count, zeros);
}

}  // namespace adze::kernels
#endif
