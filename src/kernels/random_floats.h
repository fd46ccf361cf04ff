#pragma once
// Numbers for tests of kernels.

#include <cstdint>
#include <vector>

#include "core/rng.h"

namespace adze::kernels {

// Uniform from -scale to scale.
inline std::vector<float> random_floats(int64_t count, uint64_t seed, double scale) {
  core::Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>((rng.next_uniform() * 2 - 1) * scale);
  }
  return values;
}

}  // namespace adze::kernels
