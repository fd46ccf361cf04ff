#pragma once
// The scale of values that are stored or multiplied as 8-bit integers: their largest magnitude /
// 127. The readable form; fast kernels find the same in vectors.

#include <cmath>
#include <cstdint>

namespace adze::kernels {

struct Int8Scale {
  float scale;    // not a number where a value is not finite
  float inverse;  // 0 where there is nothing to scale

  Int8Scale(const float* values, int64_t count) {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) {
      // Not std::max: what is not a number stays.
      largest = std::abs(values[i]) <= largest ? largest : std::abs(values[i]);
    }
    const bool finite = std::isfinite(largest);
    scale = finite ? largest / 127.0F : NAN;
    inverse = finite && largest > 0 ? 127.0F / largest : 0.0F;
  }

  // The nearest multiple of the scale, -127 to 127, ties to even.
  float multiple(float value) const {
    return std::isnan(scale) ? 0.0F : std::nearbyint(value * inverse);
  }
};

}  // namespace adze::kernels
