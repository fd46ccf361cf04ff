// rms_norm, swiglu, rope and the cross-entropy against their references and closed forms.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/simd.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"
#include "kernels/swiglu/swiglu.h"

namespace adze::kernels {
namespace {

std::vector<float> random_floats(int64_t count, uint64_t seed, double scale) {
  core::Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>((rng.next_uniform() * 2 - 1) * scale);
  }
  return values;
}

class ElementwiseTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override { force_isa(supported_isas().front()); }
};

TEST_P(ElementwiseTest, RmsNormAgreesWithTheReference) {
  for (const int64_t columns : {16, 48, 576}) {
    for (const int64_t rows : {1, 3, 40}) {
      const auto x = random_floats(rows * columns, 1, 3);
      const auto delta = random_floats(rows * columns, 2, 3);
      const auto weight = random_floats(columns, 3, 1);
      for (const bool with_delta : {false, true}) {
        std::vector<float> sum(x.size());
        std::vector<float> y(x.size());
        std::vector<float> slow_sum(x.size());
        std::vector<float> slow(x.size());
        RmsNorm norm{x.data(),
                     with_delta ? delta.data() : nullptr,
                     sum.data(),
                     weight.data(),
                     y.data(),
                     rows,
                     columns,
                     1e-5F};
        rms_norm(norm);
        norm.sum = slow_sum.data();
        norm.y = slow.data();
        rms_norm_reference(norm);
        EXPECT_EQ(sum, slow_sum);
        for (size_t i = 0; i < y.size(); ++i) {
          ASSERT_NEAR(y[i], slow[i], 2e-6 * std::max(1.0F, std::abs(slow[i])));
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, SwigluAgreesWithTheReference) {
  const auto gate = random_floats(30 * 48, 4, 20);
  const auto up = random_floats(30 * 48, 5, 2);
  std::vector<float> y(gate.size());
  std::vector<float> slow(gate.size());
  swiglu(gate.data(), up.data(), 30, 48, y.data());
  swiglu_reference(gate.data(), up.data(), 30, 48, slow.data());
  for (size_t i = 0; i < y.size(); ++i) {
    ASSERT_NEAR(y[i], slow[i], 4e-6 * std::max(1.0F, std::abs(slow[i])));
  }
}

TEST_P(ElementwiseTest, SwigluOfExtremeGatesStaysFinite) {
  std::vector<float> gate(16, -200.0F);
  gate[1] = 200.0F;
  const std::vector<float> up(16, 1.0F);
  std::vector<float> y(16);
  swiglu(gate.data(), up.data(), 1, 16, y.data());
  EXPECT_NEAR(y[0], 0.0F, 1e-30F);
  EXPECT_FLOAT_EQ(y[1], 200.0F);
}

TEST_P(ElementwiseTest, CrossEntropyAgreesWithTheReference) {
  for (const int64_t columns : {1, 15, 300, 5000}) {
    const auto logits = random_floats(5 * columns, 8, 30);
    const std::vector<int32_t> targets = {
        0, static_cast<int32_t>(columns / 2), static_cast<int32_t>(columns - 1), 0, 0};
    std::vector<float> fast(5);
    std::vector<float> slow(5);
    softmax_cross_entropy(logits.data(), targets.data(), 5, columns, fast.data());
    softmax_cross_entropy_reference(logits.data(), targets.data(), 5, columns, slow.data());
    for (size_t i = 0; i < fast.size(); ++i) {
      ASSERT_NEAR(fast[i], slow[i], 2e-5) << columns;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa,
                         ElementwiseTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& instance) { return instance.param; });

TEST(Rope, ScoresDependOnDistanceOnly) {
  RopeTable table(32, 10000.0);
  table.reserve(500);
  const auto query = random_floats(32, 6, 1);
  const auto key = random_floats(32, 7, 1);
  const auto score = [&](int64_t query_position, int64_t key_position) {
    std::vector<float> q(32);
    std::vector<float> k(32);
    rope(table, query.data(), &query_position, 1, 1, q.data());
    rope(table, key.data(), &key_position, 1, 1, k.data());
    double sum = 0;
    for (size_t i = 0; i < 32; ++i) {
      sum += static_cast<double>(q[i]) * static_cast<double>(k[i]);
    }
    return sum;
  };
  EXPECT_NEAR(score(7, 3), score(404, 400), 1e-4);
  EXPECT_NEAR(score(100, 0), score(499, 399), 1e-4);
}

TEST(Rope, RotatesPairsByTheAngleOfTheirPosition) {
  RopeTable table(4, 100.0);
  table.reserve(3);
  const std::vector<float> source = {1, 2, 0, 0};
  std::vector<float> target(4);
  const int64_t position = 2;
  rope(table, source.data(), &position, 1, 1, target.data());
  EXPECT_NEAR(target[0], std::cos(2.0), 1e-6);
  EXPECT_NEAR(target[2], std::sin(2.0), 1e-6);
  EXPECT_NEAR(target[1], 2 * std::cos(0.2), 1e-6);  // frequency 100^(-2/4) = 0.1
  EXPECT_NEAR(target[3], 2 * std::sin(0.2), 1e-6);
}

}  // namespace
}  // namespace adze::kernels
