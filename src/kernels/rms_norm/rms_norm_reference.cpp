#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace adze::kernels {

void rms_norm_reference(const RmsNorm& norm) {
  for (int64_t row = 0; row < norm.rows; ++row) {
    const int64_t offset = row * norm.columns;
    const float* values = norm.x + offset;
    if (norm.delta != nullptr) {
      for (int64_t column = 0; column < norm.columns; ++column) {
        norm.sum[offset + column] = norm.x[offset + column] + norm.delta[offset + column];
      }
      values = norm.sum + offset;
    }
    double squares = 0;
    for (int64_t column = 0; column < norm.columns; ++column) {
      squares += static_cast<double>(values[column]) * static_cast<double>(values[column]);
    }
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(norm.columns) +
                                         static_cast<double>(norm.epsilon));
    for (int64_t column = 0; column < norm.columns; ++column) {
      norm.y[offset + column] = static_cast<float>(static_cast<double>(values[column]) * scale *
                                                   static_cast<double>(norm.weight[column]));
    }
  }
}

}  // namespace adze::kernels
