#pragma once
// Many numbers of half precision at once.

#include <cstdint>

namespace adze::kernels {

// count a multiple of 16. To f16: to nearest, ties to even, as core::half_from_float.
void floats_from_halves(const uint16_t* source, int64_t count, float* target);
void halves_from_floats(const float* source, int64_t count, uint16_t* target);

}  // namespace adze::kernels
