#pragma once
// Many numbers of half precision at once.

#include <cstdint>

namespace adze::kernels {

// target[i] = f16 source[i]; count a multiple of 16.
void floats_from_halves(const uint16_t* source, int64_t count, float* target);

}  // namespace adze::kernels
