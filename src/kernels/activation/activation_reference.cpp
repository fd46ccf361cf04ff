#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/activation/activation.h"

namespace adze::kernels {
namespace {

double activated(Activation activation, double value) {
  // Below, both forms of GELU are zero to all digits of f32; -infinity times zero would be NaN.
  constexpr double kVanished = -40;
  switch (activation) {
    case Activation::kSilu:
      return value / (1.0 + std::exp(-value));
    case Activation::kGelu:
      value = value < kVanished ? kVanished : value;
      return value / 2 * std::erfc(-value / std::numbers::sqrt2);
    case Activation::kGeluTanh: {
      value = value < kVanished ? kVanished : value;
      const double inner =
          std::sqrt(2 / std::numbers::pi) * (value + 0.044715 * std::pow(value, 3));
      return value / 2 * (1 + std::tanh(inner));
    }
  }
  return NAN;
}

double slope_of(Activation activation, double value) {
  switch (activation) {
    case Activation::kSilu: {
      const double share = 1.0 / (1.0 + std::exp(-value));
      return share + value * share * (1 - share);
    }
    case Activation::kGelu:
      return std::erfc(-value / std::numbers::sqrt2) / 2 +
             value * std::exp(-value * value / 2) / std::sqrt(2 * std::numbers::pi);
    case Activation::kGeluTanh: {
      const double factor = std::sqrt(2 / std::numbers::pi);
      const double tanh = std::tanh(factor * (value + 0.044715 * std::pow(value, 3)));
      return (1 + tanh) / 2 +
             value / 2 * (1 - tanh * tanh) * factor * (1 + 3 * 0.044715 * value * value);
    }
  }
  return NAN;
}

}  // namespace

void activate_reference(Activation activation,
                        const float* gate,
                        const float* up,
                        int64_t rows,
                        int64_t columns,
                        float* y) {
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double value = activated(activation, static_cast<double>(gate[i]));
    y[i] = static_cast<float>(up == nullptr ? value : value * static_cast<double>(up[i]));
  }
}

void activate_gradient_reference(Activation activation,
                                 const float* gate,
                                 const float* up,
                                 const float* y_gradient,
                                 int64_t rows,
                                 int64_t columns,
                                 float* gate_gradient,
                                 float* up_gradient) {
  for (int64_t i = 0; i < rows * columns; ++i) {
    const auto value = static_cast<double>(gate[i]);
    const auto gradient = static_cast<double>(y_gradient[i]);
    const double factor = up != nullptr ? static_cast<double>(up[i]) : 1;
    gate_gradient[i] = static_cast<float>(gradient * factor * slope_of(activation, value));
    if (up != nullptr) {
      up_gradient[i] = static_cast<float>(gradient * activated(activation, value));
    }
  }
}

}  // namespace adze::kernels
