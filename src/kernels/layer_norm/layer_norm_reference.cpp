#include <cmath>

#include "kernels/layer_norm/layer_norm.h"

namespace adze::kernels {

void layer_norm_reference(const LayerNorm& norm) {
  const auto count = static_cast<double>(norm.columns);
  for (int64_t row = 0; row < norm.rows; ++row) {
    const int64_t offset = row * norm.columns;
    const float* values = norm.x + offset;
    if (norm.delta != nullptr) {
      for (int64_t column = 0; column < norm.columns; ++column) {
        norm.sum[offset + column] = norm.x[offset + column] + norm.delta[offset + column];
      }
      values = norm.sum + offset;
    }
    double mean = 0;
    for (int64_t column = 0; column < norm.columns; ++column) {
      mean += static_cast<double>(values[column]) / count;
    }
    double variance = 0;
    for (int64_t column = 0; column < norm.columns; ++column) {
      const double distance = static_cast<double>(values[column]) - mean;
      variance += distance * distance / count;
    }
    const double scale = 1.0 / std::sqrt(variance + static_cast<double>(norm.epsilon));
    for (int64_t column = 0; column < norm.columns; ++column) {
      const double bias = norm.bias == nullptr ? 0.0 : static_cast<double>(norm.bias[column]);
      const double distance = static_cast<double>(values[column]) - mean;
      norm.y[offset + column] =
          static_cast<float>(distance * scale * static_cast<double>(norm.weight[column]) + bias);
    }
  }
}

}  // namespace adze::kernels
