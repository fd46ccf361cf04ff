#pragma once
// The Walsh-Hadamard transform, orthonormal and its own inverse.

#include <cstdint>

namespace adze::kernels {

// Turns each of `rows` rows [width] by the Hadamard matrix of the largest power of two that divides
// width, block by block; width a multiple of 16.
void hadamard(int64_t rows, int64_t width, float* numbers);

// The same bits, number by number.
void hadamard_reference(int64_t rows, int64_t width, float* numbers);

}  // namespace adze::kernels
