#include "formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "core/error.h"
#include "core/float16.h"

namespace adze::formats {
namespace {

using core::TensorType;

using Encoder = void (*)(const float* values, uint8_t* block);

void store(uint8_t* bytes, uint16_t value) {
  std::memcpy(bytes, &value, sizeof(value));
}

// Halves that a block cannot do without; infinity would turn the whole block into NaN.
uint16_t scale_bits(float scale) {
  const uint16_t half = core::half_from_float(scale);
  if ((half & 0x7C00) == 0x7C00) {
    throw core::error(
        "quantize", "expected blocks with a scale within [-65504, 65504], got {}", scale);
  }
  return half;
}

// 0 where no reciprocal exists: the block is zero, or so small that its scale rounds to zero.
float reciprocal(float scale) {
  const float inverse = 1.0F / scale;
  return scale == 0.0F || !std::isfinite(inverse) ? 0.0F : inverse;
}

// The value of largest magnitude, sign kept; the first of equals.
float extreme_value(const float* values, int count) {
  return *std::max_element(values, values + count, [](float left, float right) {
    return std::abs(left) < std::abs(right);
  });
}

// Truncation after the offset (half a step in it) rounds, since what it leaves is not negative.
uint8_t code_of(float scaled, float offset, int max_code) {
  return static_cast<uint8_t>(std::min(static_cast<int>(scaled + offset), max_code));
}

void encode_f32(const float* values, uint8_t* block) {
  std::memcpy(block, values, sizeof(float));
}

void encode_f16(const float* values, uint8_t* block) {
  store(block, core::half_from_float(values[0]));
}

void encode_bf16(const float* values, uint8_t* block) {
  store(block, core::bfloat16_from_float(values[0]));
}

struct FiveBitCodes {
  uint8_t nibbles[16];
  uint32_t high_bits;
};

// Four low bits of value i and i + 16 share byte i; the fifth bits stand apart.
FiveBitCodes pack_codes(const uint8_t* codes) {
  FiveBitCodes packed = {};
  for (int i = 0; i < 32; ++i) {
    packed.high_bits |= static_cast<uint32_t>(codes[i] >> 4) << i;
  }
  for (int i = 0; i < 16; ++i) {
    packed.nibbles[i] = static_cast<uint8_t>((codes[i] & 0xF) | (codes[i + 16] << 4));
  }
  return packed;
}

// Codes around the middle: the extreme value gets code 0, whatever its sign.
void symmetric_codes(const float* values, int middle, uint8_t* block, uint8_t* codes) {
  const float scale = extreme_value(values, 32) / static_cast<float>(-middle);
  const float inverse = reciprocal(scale);
  store(block, scale_bits(scale));
  for (int i = 0; i < 32; ++i) {
    codes[i] = code_of(values[i] * inverse, static_cast<float>(middle) + 0.5F, 2 * middle - 1);
  }
}

// Codes from the minimum up.
void affine_codes(const float* values, int max_code, uint8_t* block, uint8_t* codes) {
  const auto [minimum, maximum] = std::minmax_element(values, values + 32);
  const float scale = (*maximum - *minimum) / static_cast<float>(max_code);
  store(block, scale_bits(scale));
  store(block + 2, scale_bits(*minimum));
  const float inverse = reciprocal(scale);
  for (int i = 0; i < 32; ++i) {
    codes[i] = code_of((values[i] - *minimum) * inverse, 0.5F, max_code);
  }
}

void encode_q4_0(const float* values, uint8_t* block) {
  uint8_t codes[32];
  symmetric_codes(values, 8, block, codes);
  std::memcpy(block + 2, pack_codes(codes).nibbles, 16);
}

void encode_q4_1(const float* values, uint8_t* block) {
  uint8_t codes[32];
  affine_codes(values, 15, block, codes);
  std::memcpy(block + 4, pack_codes(codes).nibbles, 16);
}

void encode_q5_0(const float* values, uint8_t* block) {
  uint8_t codes[32];
  symmetric_codes(values, 16, block, codes);
  const FiveBitCodes packed = pack_codes(codes);
  std::memcpy(block + 2, &packed.high_bits, 4);
  std::memcpy(block + 6, packed.nibbles, 16);
}

void encode_q5_1(const float* values, uint8_t* block) {
  uint8_t codes[32];
  affine_codes(values, 31, block, codes);
  const FiveBitCodes packed = pack_codes(codes);
  std::memcpy(block + 4, &packed.high_bits, 4);
  std::memcpy(block + 8, packed.nibbles, 16);
}

void encode_q8_0(const float* values, uint8_t* block) {
  const float scale = std::abs(extreme_value(values, 32)) / 127.0F;
  const float inverse = reciprocal(scale);
  store(block, scale_bits(scale));
  for (int i = 0; i < 32; ++i) {
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::round(values[i] * inverse)));
  }
}

// The scale of scales, rounded away from zero: rounded towards zero, the largest group scale would
// not fit into eight bits, and half precision is coarse here (typical values are subnormal).
uint16_t scale_of_scales_bits(float exact) {
  const uint16_t half = scale_bits(exact);
  const bool shrunk = std::abs(core::float_from_half(half)) < std::abs(exact);
  return shrunk ? scale_bits(core::float_from_half(static_cast<uint16_t>(half + 1))) : half;
}

// Group scales send each group's extreme value to code -32; eight bits of them, then the codes
// against the scales as stored.
void encode_q6_k(const float* values, uint8_t* block) {
  float group_scales[16];
  for (int s = 0; s < 16; ++s) {
    group_scales[s] = extreme_value(values + 16 * s, 16) / -32.0F;
  }
  const uint16_t stored = scale_of_scales_bits(extreme_value(group_scales, 16) / -128.0F);
  const float scale_of_scales = core::float_from_half(stored);
  const float inverse = reciprocal(scale_of_scales);
  std::memset(block, 0, 192);
  store(block + 208, stored);
  for (int i = 0; i < 256; ++i) {
    const float group_code =
        std::clamp(std::round(group_scales[i / 16] * inverse), -128.0F, 127.0F);
    block[192 + i / 16] = static_cast<uint8_t>(static_cast<int8_t>(group_code));
    const float step = reciprocal(scale_of_scales * group_code);
    const float rounded = std::clamp(std::round(values[i] * step), -32.0F, 31.0F);
    const auto code = static_cast<unsigned>(static_cast<int>(rounded) + 32);
    const int row = i % 128 / 32;
    uint8_t& nibbles = block[i / 128 * 64 + i % 64];
    nibbles = static_cast<uint8_t>(nibbles | ((code & 0xFU) << (row < 2 ? 0 : 4)));
    uint8_t& fields = block[128 + i / 128 * 32 + i % 32];
    fields = static_cast<uint8_t>(fields | ((code >> 4) << (2 * row)));
  }
}

Encoder encoder_of(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return encode_f32;
    case TensorType::kF16:
      return encode_f16;
    case TensorType::kBF16:
      return encode_bf16;
    case TensorType::kQ4_0:
      return encode_q4_0;
    case TensorType::kQ4_1:
      return encode_q4_1;
    case TensorType::kQ5_0:
      return encode_q5_0;
    case TensorType::kQ5_1:
      return encode_q5_1;
    case TensorType::kQ8_0:
      return encode_q8_0;
    case TensorType::kQ6_K:
      return encode_q6_k;
    default:
      return nullptr;
  }
}

void check_finite(const float* input, int64_t columns) {
  for (int64_t column = 0; column < columns; ++column) {
    if (!std::isfinite(input[column])) {
      throw core::error(
          "quantize", "column {}: expected a finite value, got {}", column, input[column]);
    }
  }
}

}  // namespace

bool can_quantize(TensorType type) {
  return encoder_of(type) != nullptr;
}

void quantize_row(TensorType type, const float* input, int64_t columns, std::byte* row) {
  const auto& layout = core::info(type);
  const Encoder encode = encoder_of(type);
  core::check(encode != nullptr, "no encoder for ", layout.name);
  core::check(columns >= 0 && columns % layout.block_elements == 0,
              "columns of ",
              layout.name,
              ", got ",
              columns);
  if (layout.block_elements > 1) {
    check_finite(input, columns);
  }
  auto* block = reinterpret_cast<uint8_t*>(row);
  for (int64_t column = 0; column < columns; column += layout.block_elements) {
    encode(input + column, block);
    block += layout.block_bytes;
  }
}

}  // namespace adze::formats
