#include <algorithm>
#include <cmath>

#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"

namespace adze::kernels {

void softmax_cross_entropy_reference(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses) {
  for (int64_t row = 0; row < rows; ++row) {
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

}  // namespace adze::kernels
