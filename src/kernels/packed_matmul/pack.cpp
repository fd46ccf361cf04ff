// From stored rows to panels (panel_layout.h). Each packer walks block by block and lane by lane
// within it, so that it writes a panel once, in order; lanes without a row stay zero.

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "kernels/packed_matmul/panel_layout.h"

namespace adze::kernels {
namespace {

using core::TensorType;
using PanelRows = std::span<const std::byte* const, kPanelRows>;

template <class T>
T load(const std::byte* address) {
  T value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

// 8 columns' codes, a byte each.
using Codes = uint64_t;

constexpr Codes each_byte(uint64_t byte) {
  return byte * 0x0101010101010101;
}

// Their low nibbles in one word, the first column's lowest.
uint32_t join_nibbles(Codes codes) {
  constexpr uint64_t kPairs = 0x00FF00FF00FF00FF;
  constexpr uint64_t kQuads = 0x0000FFFF0000FFFF;
  codes &= each_byte(15);
  codes = (codes & kPairs) | (codes >> 8 & kPairs) << 4;
  codes = (codes & kQuads) | (codes >> 16 & kQuads) << 8;
  return static_cast<uint32_t>((codes & 0xFFFFFFFF) | codes >> 32 << 16);
}

// 8 columns' fields of `mask` that start at bit `shift` of 8 bytes.
Codes fields(const std::byte* bytes, int64_t shift, uint64_t mask) {
  return load<uint64_t>(bytes) >> shift & each_byte(mask);
}

// 16 bytes: columns 0 to 15 in the low nibbles, 16 to 31 in the high ones.
Codes split_nibbles(const std::byte* bytes, int64_t group) {
  return fields(bytes + group % 2 * 8, group / 2 * 4, 15);
}

// Bit i of a byte becomes byte i, 0 or 1.
Codes spread_bits(uint8_t bits) {
  const uint64_t one_each = each_byte(bits) & 0x8040201008040201;
  return (one_each + each_byte(0x7F)) >> 7 & each_byte(1);
}

// Where a lane's header goes.
struct Header {
  std::byte* block;
  int64_t lane;

  void put_halves(int64_t offset, const std::byte* stored) const {
    std::memcpy(block + offset + lane * 2, stored, 2);
  }
  void put_word(int64_t offset, uint32_t word) const {
    std::memcpy(block + offset + lane * 4, &word, 4);
  }
};

// Each Form turns one stored block of one row into a lane: header(), and codes() of columns 8 group
// to 8 group + 7 of the 32 columns `part`.
template <TensorType type>
struct Form;

// Stored: scale, with a minimum for the odd kinds | fifth bits (q5) | 16 bytes of nibbles.
template <int64_t halves, int64_t fifth_bits>
struct LegacyForm {
  static void header(const std::byte* stored, const Header& header) {
    for (int64_t half = 0; half < halves; ++half) {
      header.put_halves(half * 32, stored + half * 2);
    }
  }
  static Codes codes(const std::byte* stored, int64_t, int64_t group) {
    const std::byte* bits = stored + halves * 2;
    const Codes low = split_nibbles(bits + fifth_bits * 4, group);
    return fifth_bits == 0 ? low : low | spread_bits(load<uint8_t>(bits + group)) << 4;
  }
};
template <>
struct Form<TensorType::kQ4_0> : LegacyForm<1, 0> {};
template <>
struct Form<TensorType::kIQ4_NL> : LegacyForm<1, 0> {};
template <>
struct Form<TensorType::kQ4_1> : LegacyForm<2, 0> {};
template <>
struct Form<TensorType::kQ5_0> : LegacyForm<1, 1> {};
template <>
struct Form<TensorType::kQ5_1> : LegacyForm<2, 1> {};

// Stored: scale | values [32] i8.
template <>
struct Form<TensorType::kQ8_0> {
  static void header(const std::byte* stored, const Header& header) {
    header.put_halves(0, stored);
  }
  static Codes codes(const std::byte* stored, int64_t, int64_t group) {
    static_assert(zero_code(TensorType::kQ8_0) == 0x80);  // added by turning the sign bit
    return load<uint64_t>(stored + 2 + group * 8) ^ each_byte(0x80);
  }
};

// Stored: 16 bytes of sub-scale (low nibble) and sub-minimum | pairs [64] | scale | minimum. In
// each half of 128 columns, column c has its pair in byte c % 32, at bits 2 * (c / 32).
template <>
struct Form<TensorType::kQ2_K> {
  static void header(const std::byte* stored, const Header& header) {
    header.put_halves(0, stored + 80);
    header.put_halves(32, stored + 82);
    for (int64_t word = 0; word < 2; ++word) {
      const auto scales = load<uint64_t>(stored + word * 8);
      header.put_word(64 + word * 64, join_nibbles(scales));
      header.put_word(64 + (2 + word) * 64, join_nibbles(scales >> 4));
    }
  }
  static Codes codes(const std::byte* stored, int64_t part, int64_t group) {
    return fields(stored + 16 + part / 4 * 32 + group * 8, part % 4 * 2, 3);
  }
};

// Stored: third bits [32], column c at bit c / 32 of byte c % 32 | pairs [64] as q2_k | 8 bytes of
// low nibbles, scales 8 to 15 in the high ones | 4 bytes of high pairs, scale s in byte s % 4 at
// bits 2 * (s / 4) | scale.
template <>
struct Form<TensorType::kQ3_K> {
  static void header(const std::byte* stored, const Header& header) {
    header.put_halves(0, stored + 108);
    const auto low = load<uint64_t>(stored + 96);
    header.put_word(32, join_nibbles(low));
    header.put_word(32 + 64, join_nibbles(low >> 4));
    const auto high = load<uint32_t>(stored + 104);
    uint32_t pairs = 0;
    for (int s = 0; s < 16; ++s) {
      pairs |= (high >> (s % 4 * 8 + s / 4 * 2) & 3U) << (s * 2);
    }
    header.put_word(32 + 2 * 64, pairs);
  }
  static Codes codes(const std::byte* stored, int64_t part, int64_t group) {
    return fields(stored + 32 + part / 4 * 32 + group * 8, part % 4 * 2, 3) |
           fields(stored + group * 8, part, 1) << 2;
  }
};

// Stored: scale | minimum | 12 bytes of sub-scales and sub-minima | fifth bits [32] (q5_k), column
// c at bit c / 32 of byte c % 32 | nibbles, 32 bytes for 64 columns. Sub-scale s < 4 is the low six
// bits of byte s, its minimum those of byte s + 4; of the later ones the low nibbles share byte
// s + 4, and the high pairs are the tops of bytes s - 4 and s.
template <int64_t fifth_bits>
struct SuperForm {
  static void header(const std::byte* stored, const Header& header) {
    header.put_halves(0, stored);
    header.put_halves(32, stored + 2);
    const auto first = load<uint32_t>(stored + 4);
    const auto second = load<uint32_t>(stored + 8);
    const auto shared = load<uint32_t>(stored + 12);
    const auto join = [](uint32_t low, uint32_t high) {
      return low | static_cast<uint64_t>(high) << 32;
    };
    header.put_word(64, join_nibbles(join(first, shared)));
    header.put_word(128, join_nibbles(join(second, shared >> 4)));
    // Of scales 0 to 3 the high pair is at bits 4 of a byte, of the later ones at bits 6.
    const uint64_t scales = join(first >> 4, first >> 6) & 0x0303030303030303;
    const uint64_t minima = join(second >> 4, second >> 6) & 0x0303030303030303;
    header.put_word(192, join_nibbles(scales | minima << 2));
  }
  static Codes codes(const std::byte* stored, int64_t part, int64_t group) {
    const std::byte* nibbles = stored + 16 + fifth_bits * 32;
    const Codes low = fields(nibbles + part / 2 * 32 + group * 8, part % 2 * 4, 15);
    return fifth_bits == 0 ? low : low | fields(stored + 16 + group * 8, part, 1) << 4;
  }
};
template <>
struct Form<TensorType::kQ4_K> : SuperForm<0> {};
template <>
struct Form<TensorType::kQ5_K> : SuperForm<1> {};

// Stored: low nibbles [128] | high pairs [64] as q2_k | sub-scales [16] i8 | scale. In each half of
// 128 columns, column c has its nibble in byte c % 64 (high nibble from 64 on).
template <>
struct Form<TensorType::kQ6_K> {
  static void header(const std::byte* stored, const Header& header) {
    header.put_halves(0, stored + 208);
    for (int64_t part = 0; part < 16; ++part) {
      header.block[32 + part * 16 + header.lane] = stored[192 + part];
    }
  }
  static Codes codes(const std::byte* stored, int64_t part, int64_t group) {
    const std::byte* nibbles = stored + part / 4 * 64 + part % 2 * 32;
    return fields(nibbles + group * 8, part % 4 / 2 * 4, 15) |
           fields(stored + 128 + part / 4 * 32 + group * 8, part % 4 * 2, 3) << 4;
  }
};

// Stored: scale | 16 bits of high pairs | 32 bits of low nibbles | for each 32 columns 16 bytes of
// nibbles.
template <>
struct Form<TensorType::kIQ4_XS> {
  static void header(const std::byte* stored, const Header& header) {
    header.put_halves(0, stored);
    header.put_word(32, load<uint32_t>(stored + 4));
    header.put_halves(32 + 64, stored + 2);
  }
  static Codes codes(const std::byte* stored, int64_t part, int64_t group) {
    return split_nibbles(stored + 8 + part * 16, group);
  }
};

// Adds a group's bits from `shift` on to a plane of `bits` bits.
void put_in_plane(Codes codes, int64_t group, int64_t shift, int64_t bits, uint32_t* words) {
  for (int64_t half = 0; half < 2; ++half) {
    constexpr uint64_t kPairs = 0x00FF00FF00FF00FF;
    const uint64_t spread = codes >> (half * 8) & kPairs;  // columns half, half + 2, ...
    const uint64_t joined = spread | spread >> 8;
    const auto quad = static_cast<uint32_t>((joined & 0xFFFF) | (joined >> 16 & 0xFFFF0000));
    const uint32_t field = quad >> shift & static_cast<uint32_t>(each_byte((1U << bits) - 1));
    const int64_t place = (group * 2 + half) * bits;
    words[place / 8] |= field << (place % 8);
  }
}

template <TensorType type>
void pack_codes(int64_t columns, PanelRows rows, std::byte* panel) {
  constexpr PanelForm kForm = panel_form(type);
  constexpr int64_t kStoredBytes = block_bytes(kForm) / 16;
  for (int64_t block = 0; block < columns / kForm.columns; ++block) {
    for (int64_t lane = 0; lane < kPanelRows; ++lane) {
      const std::byte* stored = rows[static_cast<size_t>(lane)];
      if (stored == nullptr) {
        continue;
      }
      stored += block * kStoredBytes;
      Form<type>::header(stored, Header{panel, lane});
      for (int64_t part = 0; part < kForm.columns / 32; ++part) {
        constexpr int64_t kLow = low_bits(kForm.code_bits);
        uint32_t words[kForm.code_bits] = {};
        for (int64_t group = 0; group < 4; ++group) {
          const Codes codes = Form<type>::codes(stored, part, group);
          put_in_plane(codes, group, 0, kLow, words);
          if constexpr (kLow < kForm.code_bits) {
            put_in_plane(codes, group, kLow, kForm.code_bits - kLow, words + kLow);
          }
        }
        std::byte* target = panel + kForm.header_bytes + part * code_bytes(kForm) + lane * 4;
        for (int64_t word = 0; word < kForm.code_bits; ++word) {
          std::memcpy(target + word * 64, words + word, 4);
        }
      }
    }
    panel += block_bytes(kForm);
  }
}

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

}  // namespace

bool has_int8_products(TensorType type) {
  return panel_form(type).columns != 0;
}

bool has_packed_form(TensorType type) {
  switch (type) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      return true;
    default:
      return has_int8_products(type);
  }
}

int64_t packed_bytes(TensorType type, int64_t outputs, int64_t columns) {
  return (outputs + kPanelRows - 1) / kPanelRows * panel_bytes(type, columns);
}

void pack_panel(TensorType type,
                int64_t columns,
                std::span<const std::byte* const, kPanelRows> rows,
                std::byte* panel) {
  const int64_t unit = std::max(panel_form(type).columns, kBlockColumns);
  core::check(columns % unit == 0, "columns % ", unit, ", got ", columns);
  std::memset(panel, 0, static_cast<size_t>(panel_bytes(type, columns)));
  switch (type) {
    case TensorType::kF32:
      return pack_plain(4, columns, rows, panel);
    case TensorType::kF16:
    case TensorType::kBF16:
      return pack_plain(2, columns, rows, panel);
    case TensorType::kQ8_0:
      return pack_codes<TensorType::kQ8_0>(columns, rows, panel);
    case TensorType::kQ4_0:
      return pack_codes<TensorType::kQ4_0>(columns, rows, panel);
    case TensorType::kQ4_1:
      return pack_codes<TensorType::kQ4_1>(columns, rows, panel);
    case TensorType::kQ5_0:
      return pack_codes<TensorType::kQ5_0>(columns, rows, panel);
    case TensorType::kQ5_1:
      return pack_codes<TensorType::kQ5_1>(columns, rows, panel);
    case TensorType::kQ2_K:
      return pack_codes<TensorType::kQ2_K>(columns, rows, panel);
    case TensorType::kQ3_K:
      return pack_codes<TensorType::kQ3_K>(columns, rows, panel);
    case TensorType::kQ4_K:
      return pack_codes<TensorType::kQ4_K>(columns, rows, panel);
    case TensorType::kQ5_K:
      return pack_codes<TensorType::kQ5_K>(columns, rows, panel);
    case TensorType::kQ6_K:
      return pack_codes<TensorType::kQ6_K>(columns, rows, panel);
    case TensorType::kIQ4_NL:
      return pack_codes<TensorType::kIQ4_NL>(columns, rows, panel);
    case TensorType::kIQ4_XS:
      return pack_codes<TensorType::kIQ4_XS>(columns, rows, panel);
  }
  core::check(false, "no packed form of ", core::info(type).name);
}

}  // namespace adze::kernels
