#include <algorithm>
#include <cmath>

#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"

namespace adze::kernels {

void softmax_cross_entropy_reference(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses) {
  for (int64_t row = 0; row < rows; ++row) {
    if (targets[row] < 0) {
      losses[row] = 0;
      continue;
    }
    const float* values = logits + row * columns;
    const double largest = static_cast<double>(*std::max_element(values, values + columns));
    double total = 0;
    for (int64_t column = 0; column < columns; ++column) {
      total += std::exp(static_cast<double>(values[column]) - largest);
    }
    losses[row] =
        static_cast<float>(std::log(total) + largest - static_cast<double>(values[targets[row]]));
  }
}

void softmax_cross_entropy_gradient_reference(const CrossEntropyGradient& rows) {
  for (int64_t row = 0; row < rows.rows; ++row) {
    float* values = rows.logits + row * rows.columns;
    const int32_t target = rows.targets[row];
    const double largest = static_cast<double>(*std::max_element(values, values + rows.columns));
    double total = 0;
    for (int64_t column = 0; column < rows.columns; ++column) {
      total += std::exp(static_cast<double>(values[column]) - largest);
    }
    const double log_sum = std::log(total) + largest;
    rows.losses[row] =
        target < 0 ? 0 : static_cast<float>(log_sum - static_cast<double>(values[target]));
    for (int64_t column = 0; column < rows.columns; ++column) {
      const double share = std::exp(static_cast<double>(values[column]) - log_sum);
      const double z_loss = 2 * static_cast<double>(rows.z_loss) * log_sum;
      const double slope = share * (1 + z_loss) - (column == target ? 1 : 0);
      values[column] = target < 0 ? 0 : static_cast<float>(slope * static_cast<double>(rows.scale));
    }
  }
}

}  // namespace adze::kernels
