#pragma once
// The scale, or scale and minimum, with which a grid is nearest to a group of values in the sense
// of least squares. Inside the encoders only.
//
// A scale is a good one for the levels that it rounds the values to, if it is their least-squares
// solution; so candidates around "the extreme value lies at the end of the grid" are rounded, the
// solution of each gives its error in closed form, and the best is rounded and solved once more.

#include <algorithm>
#include <cmath>
#include <span>

#include "formats/quantize_grid.h"

namespace adze::formats {

// 0 where no reciprocal exists: the values are zero, or so small that their scale rounds to zero.
inline float reciprocal(float scale) {
  const float inverse = 1.0F / scale;
  return scale == 0.0F || !std::isfinite(inverse) ? 0.0F : inverse;
}

struct Range {
  float low;
  float high;
};

// count: a multiple of 4.
inline Range range_of(const float* values, int count) {
  Floats low = load_floats(values);
  Floats high = low;
  for (int i = kFloats; i < count; i += kFloats) {
    const Floats value = load_floats(values + i);
    low = value < low ? value : low;
    high = value > high ? value : high;
  }
  return {std::min({low[0], low[1], low[2], low[3]}),
          std::max({high[0], high[1], high[2], high[3]})};
}

// The value of largest magnitude, sign kept; of two that differ in sign the positive one.
inline float extreme_value(const float* values, int count) {
  const Range range = range_of(values, count);
  return -range.low > range.high ? range.low : range.high;
}

// Sum of (values - scale * nearest level)^2.
template <class Grid, int kCount>
float scale_error(const float* values, float scale) {
  const float inverse = reciprocal(scale);
  Floats sum = {};
  for (int i = 0; i < kCount; i += kFloats) {
    const Floats value = load_floats(values + i);
    const Floats difference = value - scale * Grid::nearest(value * inverse);
    sum += difference * difference;
  }
  return sum_floats(sum);
}

// levels [kCount] of the values under a scale.
template <class Grid, int kCount>
void round_to_levels(const float* values, float scale, float* levels) {
  const float inverse = reciprocal(scale);
  for (int i = 0; i < kCount; i += kFloats) {
    const Floats level = Grid::nearest(load_floats(values + i) * inverse);
    std::memcpy(levels + i, &level, sizeof(level));
  }
}

struct ScaleFit {
  float scale = 0;
  float gain = 0;  // by how much the scale makes the sum of squares smaller
};

template <class Grid, int kCount>
ScaleFit solve_scale(const float* values, float inverse) {
  Floats products = {};
  Floats squares = {};
  for (int i = 0; i < kCount; i += kFloats) {
    const Floats value = load_floats(values + i);
    const Floats level = Grid::nearest(value * inverse);
    products += value * level;
    squares += level * level;
  }
  const float product = sum_floats(products);
  const float square = sum_floats(squares);
  return square > 0 ? ScaleFit{product / square, product * product / square} : ScaleFit{};
}

// The scale, of either sign. `reaches`: where candidates put the extreme value, on the grid.
// Values within +-2^50, so that no sum of squares overflows.
template <class Grid, int kCount>
float search_scale(const float* values, std::span<const float> reaches) {
  const float extreme = extreme_value(values, kCount);
  const float inverse = reciprocal(extreme);
  if (inverse == 0) {
    return 0;
  }
  // Relative to the extreme value: squares of small values would vanish.
  float relative[kCount];
  std::transform(values, values + kCount, relative, [&](float value) { return value * inverse; });
  ScaleFit best;
  for (const float reach : reaches) {
    const ScaleFit fit = solve_scale<Grid, kCount>(relative, reach);
    if (fit.gain > best.gain) {
      best = fit;
    }
  }
  const ScaleFit again = solve_scale<Grid, kCount>(relative, reciprocal(best.scale));
  return (again.gain > best.gain ? again.scale : best.scale) * extreme;
}

struct AffineFit {
  float scale = 0;    // at least 0
  float minimum = 0;  // value = scale * code + minimum
};

// Sum of (values - scale * code - minimum)^2 over nearest codes from 0 to kMaxCode.
template <int kMaxCode, int kCount>
float affine_error(const float* values, AffineFit fit) {
  const float inverse = reciprocal(fit.scale);
  Floats sum = {};
  for (int i = 0; i < kCount; i += kFloats) {
    const Floats value = load_floats(values + i) - fit.minimum;
    const Floats level = IntegerGrid<0, kMaxCode>::nearest(value * inverse);
    const Floats difference = value - fit.scale * level;
    sum += difference * difference;
  }
  return sum_floats(sum);
}

// codes [kCount] of the values under a scale and a minimum.
template <int kMaxCode, int kCount>
void round_to_codes(const float* values, AffineFit fit, float* codes) {
  const float inverse = reciprocal(fit.scale);
  for (int i = 0; i < kCount; i += kFloats) {
    const Floats code =
        IntegerGrid<0, kMaxCode>::nearest((load_floats(values + i) - fit.minimum) * inverse);
    std::memcpy(codes + i, &code, sizeof(code));
  }
}

struct AffineSums {  // over the values and their codes
  float values = 0;
  float codes = 0;
  float products = 0;
  float squares = 0;
};

template <int kMaxCode, int kCount>
AffineSums affine_sums(const float* values, float inverse, float minimum) {
  Floats sum = {};
  Floats codes = {};
  Floats products = {};
  Floats squares = {};
  for (int i = 0; i < kCount; i += kFloats) {
    const Floats value = load_floats(values + i);
    const Floats code = IntegerGrid<0, kMaxCode>::nearest((value - minimum) * inverse);
    sum += value;
    codes += code;
    products += value * code;
    squares += code * code;
  }
  return {sum_floats(sum), sum_floats(codes), sum_floats(products), sum_floats(squares)};
}

struct AffineSolution {
  AffineFit fit;
  float error = 0;  // up to a constant, the sum of squares
  bool valid = false;
};

// The least-squares solution for given codes; where its minimum exceeds `highest_minimum`, or where
// all codes are equal and leave it open, the one with a given minimum. highest_minimum: at least 0.
template <int kCount>
AffineSolution solve_affine(const AffineSums& sums, float highest_minimum) {
  constexpr auto kNumber = static_cast<float>(kCount);
  const float determinant = kNumber * sums.squares - sums.codes * sums.codes;
  AffineFit fit;
  if (determinant > 0) {
    fit.scale = (kNumber * sums.products - sums.codes * sums.values) / determinant;
    fit.minimum = (sums.values - fit.scale * sums.codes) / kNumber;
  }
  if (!(determinant > 0) || fit.minimum > highest_minimum) {
    fit.minimum = determinant > 0 ? highest_minimum : 0;
    fit.scale = (sums.products - fit.minimum * sums.codes) / sums.squares;
  }
  const float error =
      fit.scale * (fit.scale * sums.squares - 2 * sums.products) +
      fit.minimum * (kNumber * fit.minimum + 2 * (fit.scale * sums.codes - sums.values));
  return {fit, error, fit.scale > 0};  // not where all codes are 0: 0 / 0
}

// Scale and minimum, the minimum at most `highest_minimum` (0 where a format stores its negative
// without a sign). `reaches`: which codes candidates give the largest value, beyond kMaxCode too.
template <int kMaxCode, int kCount>
AffineFit search_affine(const float* values,
                        float highest_minimum,
                        std::span<const float> reaches) {
  const Range ends = range_of(values, kCount);
  const float minimum = std::min(ends.low, highest_minimum);
  const float range = std::max(ends.high, minimum) - minimum;
  const float inverse = reciprocal(range);
  if (inverse == 0) {
    return {0, minimum};
  }
  // Relative to the range: sums would lose a small range beside a large offset.
  float relative[kCount];
  std::transform(
      values, values + kCount, relative, [&](float value) { return (value - minimum) * inverse; });
  const float highest = (highest_minimum - minimum) * inverse;
  AffineSolution best;
  const auto consider = [&](float scale_inverse, float offset) {
    const auto sums = affine_sums<kMaxCode, kCount>(relative, scale_inverse, offset);
    const AffineSolution solution = solve_affine<kCount>(sums, highest);
    const bool is_better = solution.valid && (!best.valid || solution.error < best.error);
    best = is_better ? solution : best;
    return is_better;
  };
  for (const float reach : reaches) {
    consider(reach, 0);
  }
  constexpr int kRefinements = 3;
  for (int round = 0; round < kRefinements && best.valid; ++round) {
    if (!consider(reciprocal(best.fit.scale), best.fit.minimum)) {
      break;
    }
  }
  return {best.fit.scale * range, best.fit.minimum * range + minimum};
}

}  // namespace adze::formats
