#pragma once
// Grids that quantized values lie on, before scaling, and how far a group of values is from one.
// Inside the encoders only (quantize.cpp, quantize_superblock.cpp).
//
// Four values at a time in GCC's and Clang's portable vectors: the same results, bit for bit, on
// every machine, since nothing here depends on the width or on fused products.

#include <array>
#include <cstdint>
#include <cstring>

namespace adze::formats {

using Floats = float __attribute__((vector_size(16)));
using Masks = int32_t __attribute__((vector_size(16)));
inline constexpr int kFloats = 4;

inline Floats load_floats(const float* values) {
  Floats loaded;
  std::memcpy(&loaded, values, sizeof(loaded));
  return loaded;
}

inline Floats all_floats(float value) {
  return Floats{value, value, value, value};
}

inline float sum_floats(Floats values) {
  return (values[0] + values[2]) + (values[1] + values[3]);
}

// To the nearest integer, ties to even; |values| below 2^22. The sum has no bits for a fraction.
inline Floats round_floats(Floats values) {
  constexpr float kUnitsOfOne = 0x1.8p23F;
  return (values + kUnitsOfOne) - kUnitsOfOne;
}

inline Floats clamp_floats(Floats values, Floats low, Floats high) {
  const Floats above = values > low ? values : low;
  return above < high ? above : high;
}

// Integers from kLow to kHigh.
template <int kLow, int kHigh>
struct IntegerGrid {
  static constexpr float kLowest = kLow;
  static constexpr float kHighest = kHigh;

  static Floats nearest(Floats values) {
    return clamp_floats(round_floats(values), all_floats(kLowest), all_floats(kHighest));
  }
  static uint8_t code(float level) { return static_cast<uint8_t>(static_cast<int>(level) - kLow); }
};

// The sixteen levels of the iq4 types, part of the format: wider apart where weights are rarer.
inline constexpr std::array<int8_t, 16> kIq4Levels = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

struct Iq4Grid {
  static constexpr float kLowest = -127;
  static constexpr float kHighest = 113;

  // Levels change at multiples of one half, where both neighbours are as near; between two such
  // places a table has the level.
  static Floats nearest(Floats values) {
    const Floats inside = clamp_floats(values, all_floats(-kReach), all_floats(kReach));
    const Masks place = __builtin_convertvector((inside + kReach) * 2, Masks);
    return Floats{kTable[static_cast<size_t>(place[0])],
                  kTable[static_cast<size_t>(place[1])],
                  kTable[static_cast<size_t>(place[2])],
                  kTable[static_cast<size_t>(place[3])]};
  }
  static uint8_t code(float level) {
    size_t code = 0;
    while (static_cast<float>(kIq4Levels[code]) < level) {
      ++code;
    }
    return static_cast<uint8_t>(code);
  }

 private:
  static constexpr int kReach = 128;
  static constexpr std::array<float, 4 * kReach + 1> kTable = [] {
    std::array<float, 4 * kReach + 1> table = {};
    size_t code = 0;
    for (size_t place = 0; place < table.size(); ++place) {
      // Four times the middle of the interval and of two levels, to stay with integers.
      const int middle = 2 * static_cast<int>(place) + 1 - 4 * kReach;
      while (code + 1 < kIq4Levels.size() &&
             2 * (kIq4Levels[code] + kIq4Levels[code + 1]) < middle) {
        ++code;
      }
      table[place] = static_cast<float>(kIq4Levels[code]);
    }
    return table;
  }();
};

}  // namespace adze::formats
