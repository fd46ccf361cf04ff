#pragma once
// Stored rows -> f32: the readable reference for every core::TensorType, and what fast kernels are
// tested against. Bit for bit what the `gguf` Python package computes: the same products and sums
// in the same order, none of them fused.

#include <cstddef>
#include <cstdint>

#include "core/tensor_type.h"

namespace adze::formats {

// row: core::row_bytes(type, columns) bytes, any alignment; output [columns]. columns must be a
// multiple of the type's block_elements.
void dequantize_row(core::TensorType type, const std::byte* row, int64_t columns, float* output);

}  // namespace adze::formats
