// From panels back to values, one by one: the definition of the layout that the fast product reads
// (panel_layout.h), and the product that defines the fast one.

#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/int8_scale.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "kernels/packed_matmul/panel_layout.h"

namespace adze::kernels {
namespace {

using core::TensorType;

// One row of a panel's block.
struct Lane {
  const std::byte* block;
  int64_t lane;

  uint32_t word(int64_t offset) const {
    uint32_t value;
    std::memcpy(&value, block + offset + lane * 4, sizeof(value));
    return value;
  }
  uint16_t half_bits(int64_t offset) const {
    uint16_t value;
    std::memcpy(&value, block + offset + lane * 2, sizeof(value));
    return value;
  }
  float half(int64_t offset) const { return core::float_from_half(half_bits(offset)); }
  int8_t byte(int64_t offset) const { return static_cast<int8_t>(block[offset + lane]); }

  // Field `index` of fields of `bits` bits that fill words from `offset` on.
  int field(int64_t offset, int64_t bits, int64_t index) const {
    const int64_t place = index * bits;
    const uint32_t mask = (1U << bits) - 1;
    return static_cast<int>(word(offset + place / 32 * 64) >> (place % 32) & mask);
  }
};

int code_of(const PanelForm& form, const Lane& lane, int64_t column) {
  const int64_t offset = form.header_bytes + column / 32 * code_bytes(form);
  const int64_t quad = column % 32 / 8 * 2 + column % 2;
  const int64_t byte = column % 8 / 2;
  const auto bits_of = [&](int64_t plane, int64_t bits) {
    const int64_t place = quad * bits;
    const uint32_t word = lane.word(plane + place / 8 * 64);
    return static_cast<int>(word >> (byte * 8 + place % 8) & ((1U << bits) - 1));
  };
  const int64_t low = low_bits(form.code_bits);
  const int64_t high = form.code_bits - low;
  return bits_of(offset, low) | (high == 0 ? 0 : bits_of(offset + low * 64, high) << low);
}

float iq4_value(int code) {
  return static_cast<float>(kIq4Values[code] - 128);
}

// A value of a type with codes. Products are exact in f32, so only sums round.
template <TensorType type>
float unpack_code(const Lane& lane, int64_t column) {
  const int code = code_of(panel_form(type), lane, column);
  const float scale = lane.half(0);
  const auto quant = static_cast<float>(code);
  switch (type) {
    case TensorType::kQ4_0:
      return scale * (quant - 8.0F);
    case TensorType::kQ5_0:
      return scale * (quant - 16.0F);
    case TensorType::kQ8_0:
      return scale * (quant - 128.0F);
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      return scale * quant + lane.half(32);
    case TensorType::kIQ4_NL:
      return scale * iq4_value(code);
    case TensorType::kQ2_K: {
      const int sub_scale = lane.field(64, 4, column / 16);
      const int sub_minimum = lane.field(64 + 2 * 64, 4, column / 16);
      return scale * static_cast<float>(sub_scale) * quant -
             lane.half(32) * static_cast<float>(sub_minimum);
    }
    case TensorType::kQ3_K: {
      const int low = lane.field(32, 4, column / 16);
      const int high = lane.field(32 + 2 * 64, 2, column / 16);
      return scale * static_cast<float>((low | high << 4) - 32) * (quant - 4.0F);
    }
    case TensorType::kQ4_K:
    case TensorType::kQ5_K: {
      const int64_t part = column / 32;
      const int high = lane.field(192, 4, part);
      const int sub_scale = lane.field(64, 4, part) | (high & 3) << 4;
      const int sub_minimum = lane.field(128, 4, part) | (high >> 2) << 4;
      return scale * static_cast<float>(sub_scale) * quant -
             lane.half(32) * static_cast<float>(sub_minimum);
    }
    case TensorType::kQ6_K:
      return scale * static_cast<float>(lane.byte(32 + column / 16 * 16)) * (quant - 32.0F);
    case TensorType::kIQ4_XS: {
      const int64_t part = column / 32;
      const int low = lane.field(32, 4, part);
      const int high = lane.half_bits(32 + 64) >> (part * 2) & 3;
      return scale * static_cast<float>((low | high << 4) - 32) * iq4_value(code);
    }
    default:
      core::check(false, "no packed form of ", core::info(type).name);
      return 0;
  }
}

template <TensorType type>
void unpack_codes(const std::byte* panel, int64_t lane, int64_t columns, float* output) {
  constexpr PanelForm kForm = panel_form(type);
  for (int64_t first = 0; first < columns; first += kForm.columns) {
    for (int64_t column = 0; column < kForm.columns; ++column) {
      output[first + column] = unpack_code<type>({panel, lane}, column);
    }
    panel += block_bytes(kForm);
  }
}

}  // namespace

void unpack_row(const PackedMatrix& weight, int64_t output_row, float* output) {
  const int64_t columns = weight.columns;
  const int64_t lane = output_row % kPanelRows;
  const std::byte* panel =
      weight.panels + output_row / kPanelRows * panel_bytes(weight.type, columns);
  switch (weight.type) {
    case TensorType::kF32:
      for (int64_t column = 0; column < columns; ++column) {
        std::memcpy(output + column, panel + (column * 16 + lane) * 4, sizeof(float));
      }
      return;
    case TensorType::kF16:
      for (int64_t column = 0; column < columns; ++column) {
        output[column] = Lane{panel, lane}.half(column * 32);
      }
      return;
    case TensorType::kBF16:
      for (int64_t column = 0; column < columns; ++column) {
        output[column] = core::float_from_bfloat16(Lane{panel, lane}.half_bits(column * 32));
      }
      return;
    case TensorType::kQ8_0:
      return unpack_codes<TensorType::kQ8_0>(panel, lane, columns, output);
    case TensorType::kQ4_0:
      return unpack_codes<TensorType::kQ4_0>(panel, lane, columns, output);
    case TensorType::kQ4_1:
      return unpack_codes<TensorType::kQ4_1>(panel, lane, columns, output);
    case TensorType::kQ5_0:
      return unpack_codes<TensorType::kQ5_0>(panel, lane, columns, output);
    case TensorType::kQ5_1:
      return unpack_codes<TensorType::kQ5_1>(panel, lane, columns, output);
    case TensorType::kQ2_K:
      return unpack_codes<TensorType::kQ2_K>(panel, lane, columns, output);
    case TensorType::kQ3_K:
      return unpack_codes<TensorType::kQ3_K>(panel, lane, columns, output);
    case TensorType::kQ4_K:
      return unpack_codes<TensorType::kQ4_K>(panel, lane, columns, output);
    case TensorType::kQ5_K:
      return unpack_codes<TensorType::kQ5_K>(panel, lane, columns, output);
    case TensorType::kQ6_K:
      return unpack_codes<TensorType::kQ6_K>(panel, lane, columns, output);
    case TensorType::kIQ4_NL:
      return unpack_codes<TensorType::kIQ4_NL>(panel, lane, columns, output);
    case TensorType::kIQ4_XS:
      return unpack_codes<TensorType::kIQ4_XS>(panel, lane, columns, output);
  }
  core::check(false, "no packed form of ", core::info(weight.type).name);
}

void round_to_int8_reference(const float* x, int64_t count, float* rounded) {
  for (int64_t first = 0; first < count; first += kBlockColumns) {
    const Int8Scale scale(x + first, kBlockColumns);
    for (int64_t i = first; i < first + kBlockColumns; ++i) {
      rounded[i] = scale.scale * scale.multiple(x[i]);
    }
  }
}

void packed_matmul_reference(const float* x,
                             int64_t rows,
                             int64_t columns,
                             std::span<const MatmulOutput> outputs) {
  std::vector<float> rounded(static_cast<size_t>(rows * columns));
  round_to_int8_reference(x, rows * columns, rounded.data());
  std::vector<float> weight(static_cast<size_t>(columns));
  for (const MatmulOutput& output : outputs) {
    const float* seen = output.weight.arithmetic == Arithmetic::kInt8 ? rounded.data() : x;
    for (int64_t o = 0; o < output.weight.outputs; ++o) {
      unpack_row(output.weight, o, weight.data());
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (int64_t c = 0; c < columns; ++c) {
          sum += static_cast<double>(seen[r * columns + c]) *
                 static_cast<double>(weight[static_cast<size_t>(c)]);
        }
        output.y[r * output.stride + o] = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace adze::kernels
