#include "formats/quantize_superblock.h"

#include <cstring>

#include "core/float16.h"
#include "formats/quantize_scale.h"
#include "formats/quantize_search.h"

// A superblock has 256 values in groups of 16 or 32. Each group has a scale (and a minimum) of few
// bits, a multiple of the superblock's half-precision scale of scales (and of minima). Encoding:
// search each group's own scale; choose the scale of scales; choose each group's code among the
// neighbours of its scale, by the error; refit the scale of scales to all 256 values by least
// squares; choose the codes again.

namespace adze::formats {
namespace {

constexpr int kValues = 256;

// A scale of scales, rounded away from zero: rounded towards zero, the largest group scale might
// not fit its bits, and half precision is coarse here (typical values are subnormal).
uint16_t unit_bits_of(float exact) {
  const uint16_t half = scale_bits(exact);
  const bool shrunk = std::abs(core::float_from_half(half)) < std::abs(exact);
  return shrunk ? scale_bits(core::float_from_half(static_cast<uint16_t>(half + 1))) : half;
}

// Types without a minimum: value = scale of scales x group scale x level.

template <class Grid, int kGroup, int kLowScale, int kHighScale>
class ScaledSuperblock {
 public:
  static constexpr int kGroups = kValues / kGroup;

  ScaledSuperblock(const float* values, std::span<const float> reaches) : values_(values) {
    float scales[kGroups];
    for (int group = 0; group < kGroups; ++group) {
      scales[group] = search_scale<Grid, kGroup>(values + group * kGroup, reaches);
    }
    // The extreme scale gets the longer, negative side of the codes.
    set_unit(extreme_value(scales, kGroups) / static_cast<float>(kLowScale));
    choose(scales, 0);
    const Choice first = choice_;
    set_unit(refit());
    choose(scales, 1);
    if (choice_.error > first.error) {
      choice_ = first;
    }
    for (int group = 0; group < kGroups; ++group) {
      round_to_levels<Grid, kGroup>(
          values + group * kGroup, group_scale(choice_.codes[group]), levels_ + group * kGroup);
    }
  }

  uint16_t unit_bits() const { return choice_.unit_bits; }
  int scale_code(int group) const { return choice_.codes[group]; }
  unsigned code(int index) const { return Grid::code(levels_[index]); }

 private:
  struct Choice {
    uint16_t unit_bits = 0;
    int codes[kGroups] = {};
    float error = 0;
  };

  void set_unit(float unit) { choice_.unit_bits = unit_bits_of(unit); }
  float unit() const { return core::float_from_half(choice_.unit_bits); }
  float group_scale(int code) const { return unit() * static_cast<float>(code); }

  // Tries codes up to `neighbours` away from the nearest ones.
  void choose(const float* scales, int neighbours) {
    choice_.error = 0;
    const float inverse = reciprocal(unit());
    for (int group = 0; group < kGroups; ++group) {
      const auto nearest = static_cast<int>(std::clamp(std::round(scales[group] * inverse),
                                                       static_cast<float>(kLowScale),
                                                       static_cast<float>(kHighScale)));
      float least = INFINITY;
      for (int code = std::max(nearest - neighbours, kLowScale);
           code <= std::min(nearest + neighbours, kHighScale);
           ++code) {
        const float error = scale_error<Grid, kGroup>(values_ + group * kGroup, group_scale(code));
        if (error < least) {
          least = error;
          choice_.codes[group] = code;
        }
      }
      choice_.error += least;
    }
  }

  // The unit that is best for the codes chosen.
  float refit() const {
    float product = 0;
    float square = 0;
    float levels[kGroup];
    for (int group = 0; group < kGroups; ++group) {
      const float* values = values_ + group * kGroup;
      const auto code = static_cast<float>(choice_.codes[group]);
      round_to_levels<Grid, kGroup>(values, group_scale(choice_.codes[group]), levels);
      Floats products = {};
      Floats squares = {};
      for (int i = 0; i < kGroup; i += kFloats) {
        const Floats level = load_floats(levels + i) * code;
        products += level * load_floats(values + i);
        squares += level * level;
      }
      product += sum_floats(products);
      square += sum_floats(squares);
    }
    return square > 0 ? product / square : 0;
  }

  const float* values_;
  Choice choice_;
  float levels_[kValues];
};

// Types with a minimum: value = scale of scales x group scale x code - scale of minima x group
// minimum, the last two not negative.

template <int kMaxCode, int kGroup, int kMaxScale>
class AffineSuperblock {
 public:
  static constexpr int kGroups = kValues / kGroup;

  AffineSuperblock(const float* values, std::span<const float> reaches) : values_(values) {
    float largest_scale = 0;
    float largest_minimum = 0;
    for (int group = 0; group < kGroups; ++group) {
      fits_[group] = search_affine<kMaxCode, kGroup>(values + group * kGroup, 0, reaches);
      largest_scale = std::max(largest_scale, fits_[group].scale);
      largest_minimum = std::max(largest_minimum, -fits_[group].minimum);
    }
    constexpr auto kLargest = static_cast<float>(kMaxScale);
    set_units(largest_scale / kLargest, largest_minimum / kLargest);
    choose(0);
    const Choice first = choice_;
    refit();
    choose(1);
    if (choice_.error > first.error) {
      choice_ = first;
    }
    for (int group = 0; group < kGroups; ++group) {
      round_to_codes<kMaxCode, kGroup>(values + group * kGroup,
                                       fit_of(choice_.scales[group], choice_.minima[group]),
                                       levels_ + group * kGroup);
    }
  }

  uint16_t scale_unit_bits() const { return choice_.scale_unit_bits; }
  uint16_t minimum_unit_bits() const { return choice_.minimum_unit_bits; }
  unsigned scale_code(int group) const { return static_cast<unsigned>(choice_.scales[group]); }
  unsigned minimum_code(int group) const { return static_cast<unsigned>(choice_.minima[group]); }
  unsigned code(int index) const { return static_cast<unsigned>(levels_[index]); }

 private:
  struct Choice {
    uint16_t scale_unit_bits = 0;
    uint16_t minimum_unit_bits = 0;
    int scales[kGroups] = {};
    int minima[kGroups] = {};
    float error = 0;
  };

  void set_units(float scale_unit, float minimum_unit) {
    choice_.scale_unit_bits = unit_bits_of(scale_unit);
    choice_.minimum_unit_bits = unit_bits_of(minimum_unit);
  }
  float scale_unit() const { return core::float_from_half(choice_.scale_unit_bits); }
  float minimum_unit() const { return core::float_from_half(choice_.minimum_unit_bits); }
  AffineFit fit_of(int scale, int minimum) const {
    return {scale_unit() * static_cast<float>(scale),
            -(minimum_unit() * static_cast<float>(minimum))};
  }
  static int nearest_code(float value, float inverse) {
    return static_cast<int>(
        std::clamp(std::round(value * inverse), 0.0F, static_cast<float>(kMaxScale)));
  }

  // Tries codes up to `neighbours` away from the nearest ones.
  void choose(int neighbours) {
    choice_.error = 0;
    for (int group = 0; group < kGroups; ++group) {
      choice_.error += choose_group(group, neighbours);
    }
  }

  // For each scale in question the minimum that suits it; returns the least error.
  float choose_group(int group, int neighbours) {
    const float* values = values_ + group * kGroup;
    const int nearest = nearest_code(fits_[group].scale, reciprocal(scale_unit()));
    const float minimum_inverse = reciprocal(minimum_unit());
    float least = INFINITY;
    for (int scale = std::max(nearest - neighbours, 0);
         scale <= std::min(nearest + neighbours, kMaxScale);
         ++scale) {
      const float step = scale_unit() * static_cast<float>(scale);
      const AffineSums sums =
          affine_sums<kMaxCode, kGroup>(values, reciprocal(step), fits_[group].minimum);
      const float minimum = (sums.values - step * sums.codes) / static_cast<float>(kGroup);
      const int middle = nearest_code(-minimum, minimum_inverse);
      for (int code = std::max(middle - neighbours, 0);
           code <= std::min(middle + neighbours, kMaxScale);
           ++code) {
        const float error = affine_error<kMaxCode, kGroup>(values, fit_of(scale, code));
        if (error < least) {
          least = error;
          choice_.scales[group] = scale;
          choice_.minima[group] = code;
        }
      }
    }
    return least;
  }

  // The two units that are best for the codes chosen: two equations.
  void refit() {
    double scale_scale = 0;
    double scale_minimum = 0;
    double minimum_minimum = 0;
    double scale_value = 0;
    double minimum_value = 0;
    for (int group = 0; group < kGroups; ++group) {
      const AffineFit fit = fit_of(choice_.scales[group], choice_.minima[group]);
      const AffineSums sums = affine_sums<kMaxCode, kGroup>(
          values_ + group * kGroup, reciprocal(fit.scale), fit.minimum);
      const double scale = choice_.scales[group];
      const double minimum = -choice_.minima[group];
      scale_scale += scale * scale * static_cast<double>(sums.squares);
      scale_minimum += scale * minimum * static_cast<double>(sums.codes);
      minimum_minimum += minimum * minimum * kGroup;
      scale_value += scale * static_cast<double>(sums.products);
      minimum_value += minimum * static_cast<double>(sums.values);
    }
    const double determinant = scale_scale * minimum_minimum - scale_minimum * scale_minimum;
    if (determinant <= 0) {
      return;
    }
    const double scale_unit =
        (scale_value * minimum_minimum - minimum_value * scale_minimum) / determinant;
    const double minimum_unit =
        (minimum_value * scale_scale - scale_value * scale_minimum) / determinant;
    if (scale_unit > 0 && minimum_unit > 0) {
      set_units(static_cast<float>(scale_unit), static_cast<float>(minimum_unit));
    }
  }

  const float* values_;
  AffineFit fits_[kGroups];
  Choice choice_;
  float levels_[kValues];
};

void store(uint8_t* bytes, uint16_t value) {
  std::memcpy(bytes, &value, sizeof(value));
}

// Sets bits in a byte that was zero there.
void put(uint8_t& byte, unsigned bits, int shift) {
  byte = static_cast<uint8_t>(byte | (bits << shift));
}

// Value 32 r + c of each half of 128 values: bits 2 r of byte c. dequantize.cpp says it in full.
void put_two_bits(uint8_t* fields, int i, unsigned bits) {
  put(fields[i / 128 * 32 + i % 32], bits, 2 * (i % 128 / 32));
}

// Value 32 r + c: bit r of byte c.
void put_one_bit(uint8_t* fields, int i, unsigned bit) {
  put(fields[i % 32], bit, i / 32);
}

// Each 32 bytes hold 64 values, low nibbles first.
void put_nibble_of_64(uint8_t* nibbles, int i, unsigned bits) {
  put(nibbles[i / 64 * 32 + i % 32], bits, i % 64 < 32 ? 0 : 4);
}

// Eight pairs of six bits in 12 bytes.
void put_scale_and_minimum(uint8_t* packed, int s, unsigned scale, unsigned minimum) {
  if (s < 4) {
    put(packed[s], scale, 0);
    put(packed[s + 4], minimum, 0);
  } else {
    put(packed[s + 4], scale & 0xF, 0);
    put(packed[s + 4], minimum & 0xF, 4);
    put(packed[s - 4], scale >> 4, 6);
    put(packed[s], minimum >> 4, 6);
  }
}

// Where candidates put the extreme value of a group, relative to the end of the grid: beyond it
// they clip the extreme, which pays for the finer steps of the others.
constexpr float kTwoBitReaches[] = {
    2.0F, 2.2F, 2.4F, 2.6F, 2.8F, 3.0F, 3.2F, 3.4F, 3.6F, 3.8F, 4.0F};
constexpr float kFourBitReaches[] = {
    13.0F, 13.4F, 13.8F, 14.2F, 14.6F, 15.0F, 15.4F, 15.8F, 16.2F, 16.6F, 17.0F};
constexpr float kFiveBitReaches[] = {29.0F, 29.5F, 30.0F, 30.5F, 31.0F, 31.5F, 32.0F};
constexpr float kThreeBitSignedReaches[] = {
    -2.6F, -2.9F, -3.2F, -3.5F, -3.8F, -4.1F, -4.4F, -4.7F, 2.4F, 2.7F, 3.0F, 3.3F, 3.6F, 3.9F};
constexpr float kSixBitSignedReaches[] = {
    -30.5F, -31.0F, -31.5F, -32.0F, -32.5F, 30.0F, 30.5F, 31.0F, 31.5F};
constexpr float kIq4Reaches[] = {-140.0F,
                                 -133.0F,
                                 -126.0F,
                                 -119.0F,
                                 -112.0F,
                                 -105.0F,
                                 -98.0F,
                                 98.0F,
                                 105.0F,
                                 112.0F,
                                 119.0F,
                                 126.0F};

}  // namespace

void encode_q2_k(const float* values, uint8_t* block) {
  const AffineSuperblock<3, 16, 15> fit(values, kTwoBitReaches);
  std::memset(block, 0, 80);
  for (int s = 0; s < 16; ++s) {
    put(block[s], fit.scale_code(s), 0);
    put(block[s], fit.minimum_code(s), 4);
  }
  for (int i = 0; i < kValues; ++i) {
    put_two_bits(block + 16, i, fit.code(i));
  }
  store(block + 80, fit.scale_unit_bits());
  store(block + 82, fit.minimum_unit_bits());
}

void encode_q3_k(const float* values, uint8_t* block) {
  const ScaledSuperblock<IntegerGrid<-4, 3>, 16, -32, 31> fit(values, kThreeBitSignedReaches);
  std::memset(block, 0, 108);
  for (int i = 0; i < kValues; ++i) {
    put_one_bit(block, i, fit.code(i) >> 2);
    put_two_bits(block + 32, i, fit.code(i) & 3);
  }
  for (int s = 0; s < 16; ++s) {
    const auto biased = static_cast<unsigned>(fit.scale_code(s) + 32);
    put(block[96 + s % 8], biased & 0xF, s < 8 ? 0 : 4);
    put(block[104 + s % 4], biased >> 4, 2 * (s / 4));
  }
  store(block + 108, fit.unit_bits());
}

void encode_q4_k(const float* values, uint8_t* block) {
  const AffineSuperblock<15, 32, 63> fit(values, kFourBitReaches);
  std::memset(block, 0, 144);
  store(block, fit.scale_unit_bits());
  store(block + 2, fit.minimum_unit_bits());
  for (int s = 0; s < 8; ++s) {
    put_scale_and_minimum(block + 4, s, fit.scale_code(s), fit.minimum_code(s));
  }
  for (int i = 0; i < kValues; ++i) {
    put_nibble_of_64(block + 16, i, fit.code(i));
  }
}

void encode_q5_k(const float* values, uint8_t* block) {
  const AffineSuperblock<31, 32, 63> fit(values, kFiveBitReaches);
  std::memset(block, 0, 176);
  store(block, fit.scale_unit_bits());
  store(block + 2, fit.minimum_unit_bits());
  for (int s = 0; s < 8; ++s) {
    put_scale_and_minimum(block + 4, s, fit.scale_code(s), fit.minimum_code(s));
  }
  for (int i = 0; i < kValues; ++i) {
    put_one_bit(block + 16, i, fit.code(i) >> 4);
    put_nibble_of_64(block + 48, i, fit.code(i) & 0xF);
  }
}

void encode_q6_k(const float* values, uint8_t* block) {
  const ScaledSuperblock<IntegerGrid<-32, 31>, 16, -128, 127> fit(values, kSixBitSignedReaches);
  std::memset(block, 0, 192);
  for (int i = 0; i < kValues; ++i) {
    put(block[i / 128 * 64 + i % 64], fit.code(i) & 0xF, i % 128 < 64 ? 0 : 4);
    put_two_bits(block + 128, i, fit.code(i) >> 4);
  }
  for (int s = 0; s < 16; ++s) {
    block[192 + s] = static_cast<uint8_t>(static_cast<int8_t>(fit.scale_code(s)));
  }
  store(block + 208, fit.unit_bits());
}

void encode_iq4_xs(const float* values, uint8_t* block) {
  const ScaledSuperblock<Iq4Grid, 32, -32, 31> fit(values, kIq4Reaches);
  std::memset(block, 0, 136);
  store(block, fit.unit_bits());
  uint16_t high_bits = 0;
  for (int s = 0; s < 8; ++s) {
    const auto biased = static_cast<unsigned>(fit.scale_code(s) + 32);
    high_bits = static_cast<uint16_t>(high_bits | ((biased >> 4) << (2 * s)));
    put(block[4 + s / 2], biased & 0xF, 4 * (s % 2));
  }
  store(block + 2, high_bits);
  for (int i = 0; i < kValues; ++i) {
    put(block[8 + i / 32 * 16 + i % 16], fit.code(i), i % 32 < 16 ? 0 : 4);
  }
}

}  // namespace adze::formats
