#include <cmath>

#include "kernels/swiglu/swiglu.h"

namespace adze::kernels {

void swiglu_reference(const float* gate, const float* up, int64_t rows, int64_t columns, float* y) {
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double value = gate[i];
    y[i] = static_cast<float>(value / (1.0 + std::exp(-value)) * static_cast<double>(up[i]));
  }
}

}  // namespace adze::kernels
