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

float load_half(const std::byte* address) {
  return core::float_from_half(load_u16(address));
}

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
uint32_t get_nibble(const std::byte* nibbles, int64_t lane, int64_t column) {
  return load_u32(nibbles + column / 8 * 64 + lane * 4) >> (column % 8 * 4) & 15U;
}

using PanelRows = std::span<const std::byte* const, kPanelRows>;

// Each packer walks block by block and lane by lane within it, so that it writes a panel once, in
// order; lanes without a row stay zero.

void pack_plain(int64_t element_bytes, int64_t columns, PanelRows rows, std::byte* panel) {
  for (int64_t block = 0; block < columns / 32; ++block) {
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      for (int64_t column = block * 32; rows[lane] != nullptr && column < block * 32 + 32;
           ++column) {
        std::memcpy(panel + (column * 16 + static_cast<int64_t>(lane)) * element_bytes,
                    rows[lane] + column * element_bytes,
                    static_cast<size_t>(element_bytes));
      }
    }
  }
}

// The low nibble of each of 8 bytes, the first byte's lowest.
uint32_t gather_low_nibbles(uint64_t bytes) {
  bytes &= 0x0F0F0F0F0F0F0F0F;
  bytes = (bytes | bytes >> 4) & 0x00FF00FF00FF00FF;
  bytes = (bytes | bytes >> 8) & 0x0000FFFF0000FFFF;
  return static_cast<uint32_t>(bytes | bytes >> 16);
}

// Stored: byte c holds columns c (low nibble) and c + 16 (high nibble).
void pack_q4(int64_t header_halves, int64_t columns, PanelRows rows, std::byte* panel) {
  const int64_t stored_bytes = header_halves * 2 + 16;
  for (int64_t block = 0; block < columns / 32; ++block) {
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      if (rows[lane] == nullptr) {
        continue;
      }
      const std::byte* stored = rows[lane] + block * stored_bytes;
      for (int64_t half = 0; half < header_halves; ++half) {
        std::memcpy(panel + half * 32 + lane * 2, stored + half * 2, 2);
      }
      uint64_t quants[2];
      std::memcpy(quants, stored + header_halves * 2, sizeof(quants));
      const uint32_t words[4] = {gather_low_nibbles(quants[0]),
                                 gather_low_nibbles(quants[1]),
                                 gather_low_nibbles(quants[0] >> 4),
                                 gather_low_nibbles(quants[1] >> 4)};
      for (int64_t word = 0; word < 4; ++word) {
        std::memcpy(panel + header_halves * 32 + word * 64 + lane * 4, words + word, 4);
      }
    }
    panel += header_halves * 32 + kNibbleBytes;
  }
}

void pack_q8_0(int64_t columns, PanelRows rows, std::byte* panel) {
  for (int64_t block = 0; block < columns / 32; ++block) {
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      if (rows[lane] == nullptr) {
        continue;
      }
      const std::byte* stored = rows[lane] + block * 34;
      std::memcpy(panel + lane * 2, stored, 2);
      for (size_t column = 0; column < 32; ++column) {
        panel[32 + column * 16 + lane] = stored[2 + column];
      }
    }
    panel += 32 + 32 * 16;
  }
}

// Stored: low nibbles [128], high pairs [64], sub-scales [16] i8, scale f16. Within each half of
// 128 columns, column c has its nibble in byte c % 64 (high nibble from 64 on) and its pair in byte
// c % 32, at bits 2 * (c / 32).
void pack_q6_k(int64_t columns, PanelRows rows, std::byte* panel) {
  for (int64_t super = 0; super < columns / kSuperColumns; ++super) {
    for (int64_t lane = 0; lane < kPanelRows; ++lane) {
      const std::byte* row = rows[static_cast<size_t>(lane)];
      if (row == nullptr) {
        continue;
      }
      row += super * 210;
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
        or_u32(block + column % 32 / 8 * 64 + lane * 4,
               (inner < 64 ? low & 15U : low >> 4) << (column % 8 * 4));
        or_u32(block + kNibbleBytes + column % 32 / 16 * 64 + lane * 4,
               (high >> (inner / 32 * 2) & 3U) << (column % 16 * 2));
      }
    }
    panel += kSuperBytes;
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
  switch (type) {
    case TensorType::kF32:
      return pack_plain(4, columns, rows, panel);
    case TensorType::kF16:
    case TensorType::kBF16:
      return pack_plain(2, columns, rows, panel);
    case TensorType::kQ4_0:
      return pack_q4(1, columns, rows, panel);
    case TensorType::kQ4_1:
      return pack_q4(2, columns, rows, panel);
    case TensorType::kQ8_0:
      return pack_q8_0(columns, rows, panel);
    case TensorType::kQ6_K:
      return pack_q6_k(columns, rows, panel);
    default:
      core::check(false, "no packed form of ", core::info(type).name);
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
