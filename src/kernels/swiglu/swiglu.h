#pragma once
// Gated activation (Shazeer, arXiv:2002.05202, SwiGLU): y = gate * sigmoid(gate) * up.

#include <cstdint>

namespace adze::kernels {

// gate, up, y [rows, columns], each contiguous; columns a multiple of 16; y may be gate or up.
// Tolerance against the reference 4e-6 relative (polynomial exponential).
void swiglu(const float* gate, const float* up, int64_t rows, int64_t columns, float* y);
void swiglu_reference(const float* gate, const float* up, int64_t rows, int64_t columns, float* y);

}  // namespace adze::kernels
