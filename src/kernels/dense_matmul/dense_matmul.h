#pragma once
// The product of f32 matrices that training spends most of its time in.

#include <cstdint>

namespace adze::kernels {

// Element (i, j) is values[i * row_stride + j * column_stride]; one of the strides is 1, so a
// matrix and its transposed are read alike.
struct MatrixView {
  const float* values;
  int64_t row_stride;
  int64_t column_stride;
};

// c [rows, columns] = a [rows, depth] · b [depth, columns], or c += ... where `adds`.
struct DenseMatmul {
  MatrixView a;
  MatrixView b;
  float* c;
  int64_t c_stride;  // between rows
  int64_t rows;
  int64_t columns;
  int64_t depth;
  bool adds;
};

// Bound by multiply-adds. A value of c is summed over rising depth, whatever the other sizes and
// the number of threads: bits depend on its row of a and its column of b alone.
void dense_matmul(const DenseMatmul& product);
void dense_matmul_reference(const DenseMatmul& product);  // in double

}  // namespace adze::kernels
