#include "kernels/dense_matmul/dense_matmul.h"

namespace adze::kernels {

void dense_matmul_reference(const DenseMatmul& product) {
  const auto at = [](const MatrixView& matrix, int64_t row, int64_t column) {
    return static_cast<double>(
        matrix.values[row * matrix.row_stride + column * matrix.column_stride]);
  };
  for (int64_t row = 0; row < product.rows; ++row) {
    for (int64_t column = 0; column < product.columns; ++column) {
      float& c = product.c[row * product.c_stride + column];
      double sum = product.adds ? static_cast<double>(c) : 0;
      for (int64_t k = 0; k < product.depth; ++k) {
        sum += at(product.a, row, k) * at(product.b, k, column);
      }
      c = static_cast<float>(sum);
    }
  }
}

}  // namespace adze::kernels
