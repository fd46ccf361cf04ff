// Packing and unpacking of panels, value by value: the definition of the layout that the fast
// product reads (panel_layout.h).

#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "kernels/packed_matmul/panel_layout.h"

namespace adze::kernels {
namespace {

using core::TensorType;

uint16_t load_u16(const std::byte* address) {
  uint16_t value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

float load_half(const std::byte* address) { return core::float_from_half(load_u16(address)); }

void or_u32(std::byte* address, uint32_t bits) {
  uint32_t value;
  std::memcpy(&value, address, sizeof(value));
  value |= bits;
  std::memcpy(address, &value, sizeof(value));
}

uint32_t load_u32(const std::byte* address) {
  uint32_t value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

// Columns [0, 32) of a lane, 4 bits each.
void put_nibble(std::byte* nibbles, int64_t lane, int64_t column, uint32_t value) {
  or_u32(nibbles + column / 8 * 64 + lane * 4, value << (column % 8 * 4));
}
uint32_t get_nibble(const std::byte* nibbles, int64_t lane, int64_t column) {
  return load_u32(nibbles + column / 8 * 64 + lane * 4) >> (column % 8 * 4) & 15U;
}

// As stored in a file: byte c holds columns c (low nibble) and c + 16 (high nibble).
uint32_t stored_nibble(const std::byte* quants, int64_t column) {
  const auto byte = std::to_integer<uint32_t>(quants[column % 16]);
  return column < 16 ? byte & 15U : byte >> 4;
}

void pack_plain(int64_t element_bytes,
                int64_t columns,
                const std::byte* row,
                int64_t lane,
                std::byte* panel) {
  for (int64_t column = 0; column < columns; ++column) {
    std::memcpy(panel + (column * 16 + lane) * element_bytes,
                row + column * element_bytes,
                static_cast<size_t>(element_bytes));
  }
}

void pack_q4(int64_t header_halves,
             int64_t columns,
             const std::byte* row,
             int64_t lane,
             std::byte* panel) {
  for (int64_t block = 0; block < columns / 32; ++block) {
    for (int64_t half = 0; half < header_halves; ++half) {
      std::memcpy(panel + half * 32 + lane * 2, row + half * 2, 2);
    }
    std::byte* words = panel + header_halves * 32 + lane * 4;
    const std::byte* quants = row + header_halves * 2;
    // Word w holds the nibbles of columns 8 w .. 8 w + 7: two runs of 8 stored bytes, twice.
    for (int64_t word = 0; word < 4; ++word) {
      uint32_t packed = 0;
      for (int64_t j = 0; j < 8; ++j) {
        packed |= stored_nibble(quants, word * 8 + j) << (4 * j);
      }
      std::memcpy(words + word * 64, &packed, sizeof(packed));
    }
    panel += header_halves * 32 + kNibbleBytes;
    row += header_halves * 2 + 16;
  }
}

void pack_q8_0(int64_t columns, const std::byte* row, int64_t lane, std::byte* panel) {
  for (int64_t block = 0; block < columns / 32; ++block) {
    std::memcpy(panel + lane * 2, row, 2);
    for (int64_t column = 0; column < 32; ++column) {
      panel[32 + column * 16 + lane] = row[2 + column];
    }
    panel += 32 + 32 * 16;
    row += 34;
  }
}

// Stored: low nibbles [128], high pairs [64], sub-scales [16] i8, scale f16. Within each half of 128
// columns, column c has its nibble in byte c % 64 (high nibble from 64 on) and its pair in byte
// c % 32, at bits 2 * (c / 32).
void pack_q6_k(int64_t columns, const std::byte* row, int64_t lane, std::byte* panel) {
  for (int64_t super = 0; super < columns / kSuperColumns; ++super) {
    std::memcpy(panel + lane * 2, row + 208, 2);
    for (int64_t group = 0; group < 16; ++group) {
      panel[32 + group * 16 + lane] = row[192 + group];
    }
    for (int64_t column = 0; column < kSuperColumns; ++column) {
      const int64_t half = column / 128;
      const int64_t inner = column % 128;
      const auto low = std::to_integer<uint32_t>(row[half * 64 + inner % 64]);
      const auto high = std::to_integer<uint32_t>(row[128 + half * 32 + inner % 32]);
      std::byte* block = panel + kSuperHeaderBytes + column / 32 * kSuperBlockBytes;
      put_nibble(block, lane, column % 32, inner < 64 ? low & 15U : low >> 4);
      or_u32(block + kNibbleBytes + column % 32 / 16 * 64 + lane * 4,
             (high >> (inner / 32 * 2) & 3U) << (column % 16 * 2));
    }
    panel += kSuperBytes;
    row += 210;
  }
}

float unpack_q6_k(const std::byte* panel, int64_t lane, int64_t column) {
  panel += column / kSuperColumns * kSuperBytes;
  column %= kSuperColumns;
  const float scale = load_half(panel + lane * 2) *
                      static_cast<float>(static_cast<int8_t>(panel[32 + column / 16 * 16 + lane]));
  const std::byte* block = panel + kSuperHeaderBytes + column / 32 * kSuperBlockBytes;
  const uint32_t low = get_nibble(block, lane, column % 32);
  const uint32_t high =
      load_u32(block + kNibbleBytes + column % 32 / 16 * 64 + lane * 4) >> (column % 16 * 2) & 3U;
  return scale * static_cast<float>(static_cast<int32_t>(low | high << 4) - 32);
}

float unpack_value(TensorType type, const std::byte* panel, int64_t lane, int64_t column) {
  const int64_t block = column / 32;
  const int64_t inner = column % 32;
  switch (type) {
    case TensorType::kF32: {
      float value;
      std::memcpy(&value, panel + (column * 16 + lane) * 4, sizeof(value));
      return value;
    }
    case TensorType::kF16:
      return load_half(panel + (column * 16 + lane) * 2);
    case TensorType::kBF16:
      return core::float_from_bfloat16(load_u16(panel + (column * 16 + lane) * 2));
    case TensorType::kQ4_0: {
      const std::byte* start = panel + block * (32 + kNibbleBytes);
      const auto quant = static_cast<float>(get_nibble(start + 32, lane, inner));
      return load_half(start + lane * 2) * (quant - 8.0F);
    }
    case TensorType::kQ4_1: {
      const std::byte* start = panel + block * (64 + kNibbleBytes);
      const auto quant = static_cast<float>(get_nibble(start + 64, lane, inner));
      return load_half(start + lane * 2) * quant + load_half(start + 32 + lane * 2);
    }
    case TensorType::kQ8_0: {
      const std::byte* start = panel + block * (32 + 32 * 16);
      const auto quant = static_cast<int8_t>(start[32 + inner * 16 + lane]);
      return load_half(start + lane * 2) * static_cast<float>(quant);
    }
    case TensorType::kQ6_K:
      return unpack_q6_k(panel, lane, column);
    default:
      core::check(false, "no packed form of ", core::info(type).name);
      return 0;
  }
}

}  // namespace

bool has_packed_form(TensorType type) {
  switch (type) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
    case TensorType::kQ4_0:
    case TensorType::kQ4_1:
    case TensorType::kQ8_0:
    case TensorType::kQ6_K:
      return true;
    default:
      return false;
  }
}

int64_t packed_bytes(TensorType type, int64_t outputs, int64_t columns) {
  return (outputs + kPanelRows - 1) / kPanelRows * panel_bytes(type, columns);
}

void pack_panel(TensorType type,
                int64_t columns,
                std::span<const std::byte* const, kPanelRows> rows,
                std::byte* panel) {
  std::memset(panel, 0, static_cast<size_t>(panel_bytes(type, columns)));
  for (int64_t lane = 0; lane < kPanelRows; ++lane) {
    const std::byte* row = rows[static_cast<size_t>(lane)];
    if (row == nullptr) {
      continue;
    }
    switch (type) {
      case TensorType::kF32:
        pack_plain(4, columns, row, lane, panel);
        break;
      case TensorType::kF16:
      case TensorType::kBF16:
        pack_plain(2, columns, row, lane, panel);
        break;
      case TensorType::kQ4_0:
        pack_q4(1, columns, row, lane, panel);
        break;
      case TensorType::kQ4_1:
        pack_q4(2, columns, row, lane, panel);
        break;
      case TensorType::kQ8_0:
        pack_q8_0(columns, row, lane, panel);
        break;
      case TensorType::kQ6_K:
        pack_q6_k(columns, row, lane, panel);
        break;
      default:
        core::check(false, "no packed form of ", core::info(type).name);
    }
  }
}

void unpack_row(const PackedMatrix& weight, int64_t output_row, float* output) {
  const std::byte* panel =
      weight.panels + output_row / kPanelRows * panel_bytes(weight.type, weight.columns);
  for (int64_t column = 0; column < weight.columns; ++column) {
    output[column] = unpack_value(weight.type, panel, output_row % kPanelRows, column);
  }
}

void packed_matmul_reference(const float* x,
                             int64_t rows,
                             int64_t columns,
                             std::span<const MatmulOutput> outputs) {
  std::vector<float> weight(static_cast<size_t>(columns));
  for (const MatmulOutput& output : outputs) {
    for (int64_t o = 0; o < output.weight.outputs; ++o) {
      unpack_row(output.weight, o, weight.data());
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (int64_t c = 0; c < columns; ++c) {
          sum += static_cast<double>(x[r * columns + c]) *
                 static_cast<double>(weight[static_cast<size_t>(c)]);
        }
        output.y[r * output.stride + o] = static_cast<float>(sum);
      }
    }
  }
}

}  // namespace adze::kernels
