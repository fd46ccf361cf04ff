#include "kernels/dense_matmul/dense_matmul.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "kernels/random_floats.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

class DenseMatmulTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    threads_ = core::num_threads();
    force_isa(GetParam());
  }
  void TearDown() override {
    force_isa(supported_isas().front());
    core::set_num_threads(threads_);
  }

 private:
  int threads_ = 1;
};

struct Size {
  int64_t rows, columns, depth;
};
// Single rows and columns, edges of tiles and strips, more than one block of each kind.
const std::vector<Size> kSizes = {{1, 1, 1},
                                  {1, 40, 3},
                                  {5, 16, 64},
                                  {6, 32, 385},
                                  {13, 33, 70},
                                  {200, 1100, 900},
                                  {97, 31, 2000}};

// A matrix of these sizes, by rows or by columns, with a gap between lines.
MatrixView view(const std::vector<float>& values, int64_t rows, int64_t columns, bool by_columns) {
  return by_columns ? MatrixView{values.data(), 1, rows + 3}
                    : MatrixView{values.data(), columns + 3, 1};
}

std::vector<float> multiply(const Size& size,
                            bool a_columns,
                            bool b_columns,
                            bool adds,
                            void (*function)(const DenseMatmul&)) {
  const auto a = random_floats((size.rows + 3) * (size.depth + 3), 1, 1);
  const auto b = random_floats((size.depth + 3) * (size.columns + 3), 2, 1);
  auto c = random_floats(size.rows * (size.columns + 5), 3, 1);
  function({.a = view(a, size.rows, size.depth, a_columns),
            .b = view(b, size.depth, size.columns, b_columns),
            .c = c.data(),
            .c_stride = size.columns + 5,
            .rows = size.rows,
            .columns = size.columns,
            .depth = size.depth,
            .adds = adds});
  return c;
}

TEST_P(DenseMatmulTest, AgreesWithTheReference) {
  for (const Size& size : kSizes) {
    for (int layout = 0; layout < 8; ++layout) {
      const bool a_columns = (layout & 1) != 0;
      const bool b_columns = (layout & 2) != 0;
      const bool adds = (layout & 4) != 0;
      const auto fast = multiply(size, a_columns, b_columns, adds, dense_matmul);
      const auto slow = multiply(size, a_columns, b_columns, adds, dense_matmul_reference);
      for (size_t i = 0; i < fast.size(); ++i) {  // gaps included: nothing is written there
        ASSERT_NEAR(fast[i], slow[i], 4e-7 * static_cast<double>(size.depth) + 1e-6)
            << size.rows << " x " << size.columns << " x " << size.depth << ", layout " << layout;
      }
    }
  }
}

TEST_P(DenseMatmulTest, BitsDoNotDependOnThreadsOrLayout) {
  for (const Size& size : kSizes) {
    core::set_num_threads(1);
    const auto expected = multiply(size, false, false, true, dense_matmul);
    for (const int threads : {2, 3, 7}) {
      core::set_num_threads(threads);
      EXPECT_EQ(multiply(size, false, false, true, dense_matmul), expected) << threads;
    }
  }
}

TEST_P(DenseMatmulTest, ARowAloneHasTheBitsThatItHasAmongOthers) {
  const Size size{50, 40, 500};
  const auto a = random_floats(size.rows * size.depth, 1, 1);
  const auto b = random_floats(size.depth * size.columns, 2, 1);
  const auto run = [&](int64_t first, int64_t rows) {
    std::vector<float> c(static_cast<size_t>(rows * size.columns));
    dense_matmul({{a.data() + first * size.depth, size.depth, 1},
                  {b.data(), size.columns, 1},
                  c.data(),
                  size.columns,
                  rows,
                  size.columns,
                  size.depth,
                  false});
    return c;
  };
  const auto all = run(0, size.rows);
  for (const int64_t row : {0, 5, 6, 49}) {
    const auto begin = all.begin() + row * size.columns;
    EXPECT_EQ(run(row, 1), std::vector<float>(begin, begin + size.columns));
  }
}

TEST_P(DenseMatmulTest, NotANumberReachesItsRowAlone) {
  auto a = random_floats(8 * 20, 1, 1);
  const auto b = random_floats(20 * 16, 2, 1);
  a[3 * 20 + 7] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> c(8 * 16);
  dense_matmul({{a.data(), 20, 1}, {b.data(), 16, 1}, c.data(), 16, 8, 16, 20, false});
  for (size_t i = 0; i < c.size(); ++i) {
    EXPECT_EQ(std::isnan(c[i]), i / 16 == 3) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas,
                         DenseMatmulTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& isa) { return isa.param; });

}  // namespace
}  // namespace adze::kernels
