#pragma once
// 16-bit floats as bits: IEEE half and bfloat16. Widening is exact; narrowing rounds to nearest,
// ties to even, and keeps infinities, signed zeros, subnormals and NaN (made quiet).

#include <bit>
#include <cstdint>

namespace adze::core {

constexpr float float_from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t exponent = (half >> 10) & 0x1FU;
  const uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: a multiple of 2^-24, exact in f32
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  // Infinity and NaN keep the all-ones exponent; others move from bias 15 to bias 127.
  const uint32_t wide_exponent = exponent == 0x1FU ? 0xFFU : exponent + 112U;
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

constexpr uint16_t half_from_float(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
  } else if (magnitude >= 0x477FF000U) {  // 65520 is half way to the first value that is too large
    half = 0x7C00U;
  } else if (magnitude < 0x38800000U) {
    // Below 2^-14: the sum with 0.5 has a unit of 2^-24, so the addition itself rounds.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U;
  } else {
    const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
    half = (rounded >> 13) - (112U << 10);
  }
  return static_cast<uint16_t>(sign | half);
}

constexpr float float_from_bfloat16(uint16_t bfloat16) {
  return std::bit_cast<float>(static_cast<uint32_t>(bfloat16) << 16);
}

constexpr uint16_t bfloat16_from_float(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  }
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace adze::core
