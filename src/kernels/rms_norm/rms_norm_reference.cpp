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

void rms_norm_gradient_reference(const RmsNormGradient& norm) {
  const auto columns = static_cast<double>(norm.columns);
  for (int64_t row = 0; row < norm.rows; ++row) {
    const int64_t offset = row * norm.columns;
    const float* x = norm.x + offset;
    double squares = 0;
    double products = 0;
    for (int64_t i = 0; i < norm.columns; ++i) {
      squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      products += static_cast<double>(x[i]) * static_cast<double>(norm.weight[i]) *
                  static_cast<double>(norm.y_gradient[offset + i]);
    }
    const double scale = 1.0 / std::sqrt(squares / columns + static_cast<double>(norm.epsilon));
    for (int64_t i = 0; i < norm.columns; ++i) {
      const double value = static_cast<double>(x[i]);
      const double gradient = static_cast<double>(norm.y_gradient[offset + i]);
      double result = scale * gradient * static_cast<double>(norm.weight[i]) -
                      std::pow(scale, 3) * value * products / columns;
      if (norm.sum_gradient != nullptr) {
        result += static_cast<double>(norm.sum_gradient[offset + i]);
      }
      if (norm.weight_gradient != nullptr) {
        norm.weight_gradient[i] += static_cast<float>(scale * value * gradient);
      }
      norm.x_gradient[offset + i] = static_cast<float>(result);
    }
  }
}

}  // namespace adze::kernels
