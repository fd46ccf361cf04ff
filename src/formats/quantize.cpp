#include "formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "core/error.h"
#include "core/float16.h"
#include "formats/quantize_scale.h"
#include "formats/quantize_search.h"
#include "formats/quantize_superblock.h"

namespace adze::formats {
namespace {

using core::TensorType;

using Encoder = void (*)(const float* values, uint8_t* block);

void store(uint8_t* bytes, uint16_t value) {
  std::memcpy(bytes, &value, sizeof(value));
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

// Where candidates put the extreme value of a block, on the grid: beyond the end they clip it,
// which pays for the finer steps of the others.
constexpr float kFourBitReaches[] = {-7.2F, -7.6F, -8.0F, -8.4F, -8.8F, 6.8F, 7.2F, 7.6F};
constexpr float kFiveBitReaches[] = {-15.0F, -15.5F, -16.0F, -16.5F, 15.0F, 15.5F};
constexpr float kFourBitAffineReaches[] = {13.5F, 14.0F, 14.5F, 15.0F, 15.5F, 16.0F};
constexpr float kFiveBitAffineReaches[] = {29.5F, 30.0F, 30.5F, 31.0F, 31.5F, 32.0F};
constexpr float kIq4Reaches[] = {-133.0F, -126.0F, -119.0F, -112.0F, 105.0F, 112.0F, 119.0F};

template <class Grid>
void symmetric_codes(const float* values,
                     std::span<const float> reaches,
                     uint8_t* block,
                     uint8_t* codes) {
  const uint16_t stored = scale_bits(search_scale<Grid, 32>(values, reaches));
  store(block, stored);
  float levels[32];
  round_to_levels<Grid, 32>(values, core::float_from_half(stored), levels);
  std::transform(levels, levels + 32, codes, Grid::code);
}

template <int kMaxCode>
void affine_codes(const float* values,
                  std::span<const float> reaches,
                  uint8_t* block,
                  uint8_t* codes) {
  const AffineFit fit = search_affine<kMaxCode, 32>(values, INFINITY, reaches);
  const uint16_t scale = scale_bits(fit.scale);
  const uint16_t minimum = scale_bits(fit.minimum);
  store(block, scale);
  store(block + 2, minimum);
  float levels[32];
  round_to_codes<kMaxCode, 32>(
      values, {core::float_from_half(scale), core::float_from_half(minimum)}, levels);
  std::transform(levels, levels + 32, codes, IntegerGrid<0, kMaxCode>::code);
}

void encode_q4_0(const float* values, uint8_t* block) {
  uint8_t codes[32];
  symmetric_codes<IntegerGrid<-8, 7>>(values, kFourBitReaches, block, codes);
  std::memcpy(block + 2, pack_codes(codes).nibbles, 16);
}

void encode_q4_1(const float* values, uint8_t* block) {
  uint8_t codes[32];
  affine_codes<15>(values, kFourBitAffineReaches, block, codes);
  std::memcpy(block + 4, pack_codes(codes).nibbles, 16);
}

void encode_q5_0(const float* values, uint8_t* block) {
  uint8_t codes[32];
  symmetric_codes<IntegerGrid<-16, 15>>(values, kFiveBitReaches, block, codes);
  const FiveBitCodes packed = pack_codes(codes);
  std::memcpy(block + 2, &packed.high_bits, 4);
  std::memcpy(block + 6, packed.nibbles, 16);
}

void encode_q5_1(const float* values, uint8_t* block) {
  uint8_t codes[32];
  affine_codes<31>(values, kFiveBitAffineReaches, block, codes);
  const FiveBitCodes packed = pack_codes(codes);
  std::memcpy(block + 4, &packed.high_bits, 4);
  std::memcpy(block + 8, packed.nibbles, 16);
}

void encode_iq4_nl(const float* values, uint8_t* block) {
  uint8_t codes[32];
  symmetric_codes<Iq4Grid>(values, kIq4Reaches, block, codes);
  std::memcpy(block + 2, pack_codes(codes).nibbles, 16);
}

void encode_q8_0(const float* values, uint8_t* block) {
  const float scale = std::abs(extreme_value(values, 32)) / 127.0F;
  const float inverse = reciprocal(scale);
  store(block, scale_bits(scale));
  for (int i = 0; i < 32; ++i) {
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::round(values[i] * inverse)));
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
    case TensorType::kQ2_K:
      return encode_q2_k;
    case TensorType::kQ3_K:
      return encode_q3_k;
    case TensorType::kQ4_K:
      return encode_q4_k;
    case TensorType::kQ5_K:
      return encode_q5_k;
    case TensorType::kQ6_K:
      return encode_q6_k;
    case TensorType::kIQ4_NL:
      return encode_iq4_nl;
    case TensorType::kIQ4_XS:
      return encode_iq4_xs;
  }
  core::check(false, "tensor type ", static_cast<uint32_t>(type));
  return nullptr;
}

// No scale of any type comes near the limit, below which no sum of squares overflows.
void check_values(const float* input, int64_t columns) {
  constexpr float kLimit = 0x1p50F;
  for (int64_t column = 0; column < columns; ++column) {
    if (!(std::abs(input[column]) <= kLimit)) {
      throw core::error(
          "quantize", "column {}: expected a value within +-2^50, got {}", column, input[column]);
    }
  }
}

}  // namespace

uint16_t scale_bits(float scale) {
  const uint16_t half = core::half_from_float(scale);
  if ((half & 0x7C00) == 0x7C00) {
    throw core::error(
        "quantize", "expected blocks with a scale within [-65504, 65504], got {}", scale);
  }
  return half;
}

void quantize_row(TensorType type, const float* input, int64_t columns, std::byte* row) {
  const auto& layout = core::info(type);
  const Encoder encode = encoder_of(type);
  core::check(columns >= 0 && columns % layout.block_elements == 0,
              "columns of ",
              layout.name,
              ", got ",
              columns);
  if (layout.block_elements > 1) {
    check_values(input, columns);
  }
  auto* block = reinterpret_cast<uint8_t*>(row);
  for (int64_t column = 0; column < columns; column += layout.block_elements) {
    encode(input + column, block);
    block += layout.block_bytes;
  }
}

TensorType fallback_type(TensorType wanted, int64_t columns) {
  const auto divides = [columns](TensorType type) {
    return columns % core::info(type).block_elements == 0;
  };
  if (divides(wanted)) {
    return wanted;
  }
  const auto smaller_block = [wanted] {
    switch (wanted) {
      case TensorType::kQ2_K:
      case TensorType::kQ3_K:
      case TensorType::kIQ4_XS:
        return TensorType::kIQ4_NL;
      case TensorType::kQ4_K:
        return TensorType::kQ5_0;
      case TensorType::kQ5_K:
        return TensorType::kQ5_1;
      case TensorType::kQ6_K:
        return TensorType::kQ8_0;
      default:
        return TensorType::kF16;
    }
  }();
  return divides(smaller_block) ? smaller_block : TensorType::kF16;
}

}  // namespace adze::formats
