#include "formats/dequantize.h"

#include <array>
#include <cstring>

#include "core/check.h"
#include "core/float16.h"

namespace adze::formats {
namespace {

using core::TensorType;

// Every decoder below turns one block into values. The opening comment gives the block's layout;
// "low nibbles first" means that byte i holds value i in its low half and value i + n in its high
// half, n being the number of bytes.
using Bytes = const uint8_t*;

template <class T>
T load(Bytes bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float load_half(Bytes bytes) {
  return core::float_from_half(load<uint16_t>(bytes));
}

void decode_f32(Bytes block, float* values) {
  values[0] = load<float>(block);
}

void decode_f16(Bytes block, float* values) {
  values[0] = load_half(block);
}

void decode_bf16(Bytes block, float* values) {
  values[0] = core::float_from_bfloat16(load<uint16_t>(block));
}

// half scale, 16 bytes of nibbles, low nibbles first: scale * (nibble - 8)
void decode_q4_0(Bytes block, float* values) {
  const float scale = load_half(block);
  const Bytes codes = block + 2;
  for (int i = 0; i < 16; ++i) {
    values[i] = scale * static_cast<float>((codes[i] & 0xF) - 8);
    values[i + 16] = scale * static_cast<float>((codes[i] >> 4) - 8);
  }
}

// half scale, half minimum, 16 bytes of nibbles, low nibbles first: scale * nibble + minimum
void decode_q4_1(Bytes block, float* values) {
  const float scale = load_half(block);
  const float minimum = load_half(block + 2);
  const Bytes codes = block + 4;
  for (int i = 0; i < 16; ++i) {
    values[i] = scale * static_cast<float>(codes[i] & 0xF) + minimum;
    values[i + 16] = scale * static_cast<float>(codes[i] >> 4) + minimum;
  }
}

// Value i of 32: four low bits from 16 bytes of nibbles, low nibbles first; the fifth is bit i of
// `high_bits`.
int five_bit_code(Bytes codes, uint32_t high_bits, int i) {
  const int low = i < 16 ? codes[i] & 0xF : codes[i - 16] >> 4;
  return low | static_cast<int>(((high_bits >> i) & 1U) << 4);
}

// half scale, 32 high bits, 16 bytes of nibbles: scale * (code - 16)
void decode_q5_0(Bytes block, float* values) {
  const float scale = load_half(block);
  const auto high_bits = load<uint32_t>(block + 2);
  for (int i = 0; i < 32; ++i) {
    values[i] = scale * static_cast<float>(five_bit_code(block + 6, high_bits, i) - 16);
  }
}

// half scale, half minimum, 32 high bits, 16 bytes of nibbles: scale * code + minimum
void decode_q5_1(Bytes block, float* values) {
  const float scale = load_half(block);
  const float minimum = load_half(block + 2);
  const auto high_bits = load<uint32_t>(block + 4);
  for (int i = 0; i < 32; ++i) {
    values[i] = scale * static_cast<float>(five_bit_code(block + 8, high_bits, i)) + minimum;
  }
}

// half scale, 32 signed bytes
void decode_q8_0(Bytes block, float* values) {
  const float scale = load_half(block);
  for (int i = 0; i < 32; ++i) {
    values[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * scale;
  }
}

// The 256-value types store codes in two halves of 128 values. A half has 32 bytes of two-bit
// fields: value 32 * r + c of the half lies at bits 2 * r of byte c.
int two_bit_field(Bytes fields, int i) {
  const int half = i / 128;
  const int row = i % 128 / 32;
  return (fields[half * 32 + i % 32] >> (2 * row)) & 3;
}

// 16 bytes of scale (low nibble) and minimum (high nibble), each for 16 values; 64 bytes of two-bit
// codes; half scale of scales; half scale of minima
void decode_q2_k(Bytes block, float* values) {
  const Bytes scales = block;
  const Bytes codes = block + 16;
  const float scale_of_scales = load_half(block + 80);
  const float scale_of_minima = load_half(block + 82);
  for (int i = 0; i < 256; ++i) {
    const float scale = scale_of_scales * static_cast<float>(scales[i / 16] & 0xF);
    const float minimum = scale_of_minima * static_cast<float>(scales[i / 16] >> 4);
    values[i] = scale * static_cast<float>(two_bit_field(codes, i)) - minimum;
  }
}

// 16 six-bit scales in 12 bytes: eight bytes with the low four bits of scales s and s + 8, four
// bytes with the high two bits of scales s, s + 4, s + 8 and s + 12
int six_bit_scale(Bytes packed, int s) {
  const int low = s < 8 ? packed[s] & 0xF : packed[s - 8] >> 4;
  const int high = (packed[8 + s % 4] >> (2 * (s / 4))) & 3;
  return low | (high << 4);
}

// 32 bytes of third bits, value 32 * r + c at bit r of byte c, where a clear bit subtracts 4; 64
// bytes of two-bit codes; 12 bytes of six-bit scales, biased by 32, each for 16 values; half scale
void decode_q3_k(Bytes block, float* values) {
  const Bytes third_bits = block;
  const Bytes codes = block + 32;
  const Bytes scales = block + 96;
  const float scale_of_scales = load_half(block + 108);
  for (int i = 0; i < 256; ++i) {
    const float scale = scale_of_scales * static_cast<float>(six_bit_scale(scales, i / 16) - 32);
    const int third_bit = (third_bits[i % 32] >> (i / 32)) & 1;
    values[i] = scale * static_cast<float>(two_bit_field(codes, i) - (third_bit == 1 ? 0 : 4));
  }
}

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

// Eight pairs of six bits in 12 bytes. Pairs 0 to 3: low six bits of bytes s and s + 4. Pairs 4 to
// 7: the low four bits share a byte of the last four, the high two are the top of bytes s - 4 and
// s.
ScaleAndMinimum scale_and_minimum(Bytes packed, int s) {
  if (s < 4) {
    return {packed[s] & 0x3F, packed[s + 4] & 0x3F};
  }
  return {(packed[s + 4] & 0xF) | ((packed[s - 4] >> 2) & 0x30),
          (packed[s + 4] >> 4) | ((packed[s] >> 2) & 0x30)};
}

// Nibble of value i where each 32 bytes hold 64 values, low nibbles first.
int nibble_of_64(Bytes codes, int i) {
  const int byte = codes[i / 64 * 32 + i % 32];
  return i % 64 < 32 ? byte & 0xF : byte >> 4;
}

// half scale of scales, half scale of minima, 12 bytes of scales and minima, each for 32 values;
// 128 bytes of nibbles: scale * nibble - minimum
void decode_q4_k(Bytes block, float* values) {
  const float scale_of_scales = load_half(block);
  const float scale_of_minima = load_half(block + 2);
  for (int i = 0; i < 256; ++i) {
    const auto pair = scale_and_minimum(block + 4, i / 32);
    const float scale = scale_of_scales * static_cast<float>(pair.scale);
    const float minimum = scale_of_minima * static_cast<float>(pair.minimum);
    values[i] = scale * static_cast<float>(nibble_of_64(block + 16, i)) - minimum;
  }
}

// As q4_k, with 32 bytes of fifth bits before the nibbles: value 32 * r + c at bit r of byte c
void decode_q5_k(Bytes block, float* values) {
  const float scale_of_scales = load_half(block);
  const float scale_of_minima = load_half(block + 2);
  const Bytes fifth_bits = block + 16;
  for (int i = 0; i < 256; ++i) {
    const auto pair = scale_and_minimum(block + 4, i / 32);
    const float scale = scale_of_scales * static_cast<float>(pair.scale);
    const float minimum = scale_of_minima * static_cast<float>(pair.minimum);
    const int fifth_bit = (fifth_bits[i % 32] >> (i / 32)) & 1;
    const int code = nibble_of_64(block + 48, i) | (fifth_bit << 4);
    values[i] = scale * static_cast<float>(code) - minimum;
  }
}

// 128 bytes of nibbles, each 64 of them low nibbles first; 64 bytes of two-bit fields above them;
// 16 signed scales, each for 16 values; half scale of scales: scale * (code - 32)
void decode_q6_k(Bytes block, float* values) {
  const Bytes nibbles = block;
  const Bytes high_fields = block + 128;
  const Bytes scales = block + 192;
  const float scale_of_scales = load_half(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int byte = nibbles[i / 128 * 64 + i % 64];
    const int low = i % 128 < 64 ? byte & 0xF : byte >> 4;
    const int code = low | (two_bit_field(high_fields, i) << 4);
    const float scale = scale_of_scales * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
    values[i] = scale * static_cast<float>(code - 32);
  }
}

// What the sixteen codes of the iq4 types stand for, part of the format.
constexpr std::array<int8_t, 16> kIq4Values = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

float iq4_value(int code) {
  return static_cast<float>(kIq4Values[static_cast<size_t>(code)]);
}

// half scale, 16 bytes of nibbles, low nibbles first
void decode_iq4_nl(Bytes block, float* values) {
  const float scale = load_half(block);
  for (int i = 0; i < 16; ++i) {
    values[i] = scale * iq4_value(block[2 + i] & 0xF);
    values[i + 16] = scale * iq4_value(block[2 + i] >> 4);
  }
}

// half scale of scales; eight six-bit scales biased by 32, each for 32 values: high two bits in a
// 16-bit word, low four bits in four bytes; then per 32 values 16 bytes of nibbles, low ones first
void decode_iq4_xs(Bytes block, float* values) {
  const float scale_of_scales = load_half(block);
  const auto high_bits = load<uint16_t>(block + 2);
  const Bytes low_bits = block + 4;
  for (int s = 0; s < 8; ++s) {
    const int low = (low_bits[s / 2] >> (4 * (s % 2))) & 0xF;
    const int high = (high_bits >> (2 * s)) & 3;
    const float scale = scale_of_scales * static_cast<float>((low | (high << 4)) - 32);
    const Bytes codes = block + 8 + s * 16;
    for (int i = 0; i < 16; ++i) {
      values[s * 32 + i] = scale * iq4_value(codes[i] & 0xF);
      values[s * 32 + i + 16] = scale * iq4_value(codes[i] >> 4);
    }
  }
}

using Decoder = void (*)(Bytes block, float* values);

Decoder decoder_of(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return decode_f32;
    case TensorType::kF16:
      return decode_f16;
    case TensorType::kBF16:
      return decode_bf16;
    case TensorType::kQ4_0:
      return decode_q4_0;
    case TensorType::kQ4_1:
      return decode_q4_1;
    case TensorType::kQ5_0:
      return decode_q5_0;
    case TensorType::kQ5_1:
      return decode_q5_1;
    case TensorType::kQ8_0:
      return decode_q8_0;
    case TensorType::kQ2_K:
      return decode_q2_k;
    case TensorType::kQ3_K:
      return decode_q3_k;
    case TensorType::kQ4_K:
      return decode_q4_k;
    case TensorType::kQ5_K:
      return decode_q5_k;
    case TensorType::kQ6_K:
      return decode_q6_k;
    case TensorType::kIQ4_NL:
      return decode_iq4_nl;
    case TensorType::kIQ4_XS:
      return decode_iq4_xs;
  }
  core::check(false, "tensor type ", static_cast<uint32_t>(type));
  return nullptr;
}

}  // namespace

void dequantize_row(TensorType type, const std::byte* row, int64_t columns, float* output) {
  const auto& layout = core::info(type);
  core::check(columns >= 0 && columns % layout.block_elements == 0,
              "columns of ",
              layout.name,
              ", got ",
              columns);
  const Decoder decode = decoder_of(type);
  auto block = reinterpret_cast<Bytes>(row);
  for (int64_t column = 0; column < columns; column += layout.block_elements) {
    decode(block, output + column);
    block += layout.block_bytes;
  }
}

}  // namespace adze::formats
