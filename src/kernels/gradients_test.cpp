// Backward kernels against references in double, and the references against finite differences.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/activation/activation.h"
#include "kernels/random_floats.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/simd.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"

namespace adze::kernels {
namespace {

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}

// d loss / d value, by central differences.
template <class Loss>
double slope(float& value, double step, Loss&& loss) {
  const float kept = value;
  value = static_cast<float>(static_cast<double>(kept) + step);
  const double above = loss();
  value = static_cast<float>(static_cast<double>(kept) - step);
  const double below = loss();
  value = kept;
  return (above - below) / (2 * step);
}

class GradientsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override { force_isa(supported_isas().front()); }
};

TEST_P(GradientsTest, RmsNormAgreesWithTheReference) {
  for (const int64_t rows : {1, 63, 130}) {
    const int64_t columns = 48;
    const auto x = random_floats(rows * columns, 1, 3);
    const auto weight = random_floats(columns, 2, 1);
    const auto y_gradient = random_floats(rows * columns, 3, 1);
    const auto sum_gradient = random_floats(rows * columns, 4, 1);
    for (const bool with_sum : {false, true}) {
      std::vector<float> fast(x.size());
      std::vector<float> slow(x.size());
      std::vector<float> fast_weight(static_cast<size_t>(columns), 0.5F);
      std::vector<float> slow_weight(static_cast<size_t>(columns), 0.5F);
      RmsNormGradient norm{x.data(),
                           weight.data(),
                           y_gradient.data(),
                           with_sum ? sum_gradient.data() : nullptr,
                           fast.data(),
                           fast_weight.data(),
                           rows,
                           columns,
                           1e-5F};
      rms_norm_gradient(norm);
      norm.x_gradient = slow.data();
      norm.weight_gradient = slow_weight.data();
      rms_norm_gradient_reference(norm);
      for (size_t i = 0; i < fast.size(); ++i) {
        ASSERT_NEAR(fast[i], slow[i], 2e-6);
      }
      for (size_t i = 0; i < fast_weight.size(); ++i) {
        ASSERT_NEAR(fast_weight[i], slow_weight[i], 5e-6 * static_cast<double>(rows));
      }
    }
  }
}

TEST_P(GradientsTest, RmsNormBitsDoNotDependOnThreads) {
  const auto x = random_floats(300 * 32, 1, 3);
  const auto weight = random_floats(32, 2, 1);
  const auto gradient = random_floats(300 * 32, 3, 1);
  std::vector<std::vector<float>> results;
  const int threads = core::num_threads();
  for (const int count : {1, 3}) {
    core::set_num_threads(count);
    std::vector<float> of_x(x.size());
    std::vector<float> of_weight(32);
    rms_norm_gradient({x.data(),
                       weight.data(),
                       gradient.data(),
                       nullptr,
                       of_x.data(),
                       of_weight.data(),
                       300,
                       32,
                       1e-5F});
    of_x.insert(of_x.end(), of_weight.begin(), of_weight.end());
    results.push_back(of_x);
  }
  core::set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
}

TEST(GradientReferences, RmsNormIsTheSlope) {
  auto x = random_floats(2 * 16, 1, 1);
  auto weight = random_floats(16, 2, 1);
  const auto pull = random_floats(2 * 16, 3, 1);
  std::vector<float> y(x.size());
  const auto loss = [&] {
    rms_norm_reference({x.data(), nullptr, nullptr, weight.data(), y.data(), 2, 16, 1e-5F});
    return dot(y, pull);
  };
  std::vector<float> x_gradient(x.size());
  std::vector<float> weight_gradient(16);
  rms_norm_gradient_reference({x.data(),
                               weight.data(),
                               pull.data(),
                               nullptr,
                               x_gradient.data(),
                               weight_gradient.data(),
                               2,
                               16,
                               1e-5F});
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(x_gradient[i], slope(x[i], 1e-2, loss), 3e-4);
  }
  for (size_t i = 0; i < weight.size(); ++i) {
    EXPECT_NEAR(weight_gradient[i], slope(weight[i], 1e-2, loss), 3e-4);
  }
}

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh};

TEST_P(GradientsTest, ActivationsAgreeWithTheReference) {
  for (const Activation activation : kActivations) {
    const auto gate = random_floats(9 * 32, 1, 12);
    const auto up = random_floats(9 * 32, 2, 2);
    const auto gradient = random_floats(9 * 32, 3, 1);
    std::vector<float> fast_gate(gate.size()), fast_up(gate.size());
    std::vector<float> slow_gate(gate.size()), slow_up(gate.size());
    activate_gradient(activation,
                      gate.data(),
                      up.data(),
                      gradient.data(),
                      9,
                      32,
                      fast_gate.data(),
                      fast_up.data());
    activate_gradient_reference(activation,
                                gate.data(),
                                up.data(),
                                gradient.data(),
                                9,
                                32,
                                slow_gate.data(),
                                slow_up.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double size = std::max(1.0, std::abs(static_cast<double>(gate[i]))) *
                          std::max(1.0, std::abs(static_cast<double>(up[i])));
      ASSERT_NEAR(fast_gate[i], slow_gate[i], 4e-6 * size) << gate[i];
      ASSERT_NEAR(fast_up[i], slow_up[i], 4e-6 * size) << gate[i];
    }
    activate_gradient(
        activation, gate.data(), nullptr, gradient.data(), 9, 32, fast_gate.data(), nullptr);
    activate_gradient_reference(
        activation, gate.data(), nullptr, gradient.data(), 9, 32, slow_gate.data(), nullptr);
    for (size_t i = 0; i < gate.size(); ++i) {
      ASSERT_NEAR(fast_gate[i], slow_gate[i], 5e-5);
    }
  }
}

TEST(GradientReferences, ActivationsAreTheSlope) {
  for (const Activation activation : kActivations) {
    auto gate = random_floats(16, 1, 4);
    auto up = random_floats(16, 2, 2);
    const auto pull = random_floats(16, 3, 1);
    std::vector<float> y(16);
    const auto loss = [&] {
      activate_reference(activation, gate.data(), up.data(), 1, 16, y.data());
      return dot(y, pull);
    };
    std::vector<float> gate_gradient(16), up_gradient(16);
    activate_gradient_reference(activation,
                                gate.data(),
                                up.data(),
                                pull.data(),
                                1,
                                16,
                                gate_gradient.data(),
                                up_gradient.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      EXPECT_NEAR(gate_gradient[i], slope(gate[i], 1e-2, loss), 1e-3);
      EXPECT_NEAR(up_gradient[i], slope(up[i], 1e-2, loss), 1e-3);
    }
  }
}

TEST_P(GradientsTest, ActivationsOfExtremeGatesAreFinite) {
  for (const Activation activation : kActivations) {
    std::vector<float> gate(16, 3e38F);
    std::fill_n(gate.begin(), 8, -3e38F);
    const std::vector<float> ones(16, 1.0F);
    std::vector<float> gate_gradient(16), up_gradient(16);
    activate_gradient(activation,
                      gate.data(),
                      ones.data(),
                      ones.data(),
                      1,
                      16,
                      gate_gradient.data(),
                      up_gradient.data());
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_NEAR(gate_gradient[i], i < 8 ? 0 : 1, 1e-6) << static_cast<int>(activation);
    }
  }
}

TEST_P(GradientsTest, CrossEntropyAgreesWithTheReference) {
  for (const int64_t columns : {1, 15, 300, 5000}) {
    auto fast = random_floats(4 * columns, 5, 20);
    auto slow = fast;
    const std::vector<int32_t> targets = {
        0, -1, static_cast<int32_t>(columns - 1), static_cast<int32_t>(columns / 2)};
    std::vector<float> fast_losses(4, 7.0F), slow_losses(4, 7.0F);
    softmax_cross_entropy_gradient(
        {fast.data(), targets.data(), 4, columns, 0.25F, 1e-3F, fast_losses.data()});
    softmax_cross_entropy_gradient_reference(
        {slow.data(), targets.data(), 4, columns, 0.25F, 1e-3F, slow_losses.data()});
    EXPECT_EQ(fast_losses[1], 0.0F);
    for (size_t i = 0; i < 4; ++i) {
      ASSERT_NEAR(fast_losses[i], slow_losses[i], 2e-5);
    }
    for (size_t i = 0; i < fast.size(); ++i) {
      ASSERT_NEAR(fast[i], slow[i], 1e-6);
    }
  }
}

TEST(GradientReferences, CrossEntropyIsTheSlope) {
  auto logits = random_floats(20, 1, 3);
  const int32_t target = 7;
  const double z_loss = 0.01;
  const auto loss = [&] {
    auto copy = logits;
    float value = 0;
    softmax_cross_entropy_reference(copy.data(), &target, 1, 20, &value);
    const double log_sum = static_cast<double>(value) + static_cast<double>(logits[7]);
    return 0.5 * (static_cast<double>(value) + z_loss * log_sum * log_sum);
  };
  std::vector<double> slopes;
  for (float& logit : logits) {
    slopes.push_back(slope(logit, 1e-2, loss));
  }
  auto gradient = logits;
  float value = 0;
  softmax_cross_entropy_gradient_reference(
      {gradient.data(), &target, 1, 20, 0.5F, static_cast<float>(z_loss), &value});
  for (size_t i = 0; i < gradient.size(); ++i) {
    EXPECT_NEAR(gradient[i], slopes[i], 1e-4);
  }
}

TEST_P(GradientsTest, CrossEntropyOfNaNStaysInItsRow) {
  auto logits = random_floats(2 * 40, 1, 3);
  logits[3] = NAN;
  const std::vector<int32_t> targets = {1, 1};
  std::vector<float> losses(2);
  softmax_cross_entropy_gradient({logits.data(), targets.data(), 2, 40, 1.0F, 0.0F, losses.data()});
  EXPECT_TRUE(std::isnan(losses[0]));
  EXPECT_TRUE(std::isnan(logits[0]));
  EXPECT_TRUE(std::isfinite(losses[1]));
  for (size_t i = 40; i < 80; ++i) {
    EXPECT_TRUE(std::isfinite(logits[i]));
  }
}

TEST(RopeGradient, IsTheTranspose) {
  RopeTable table({0.3, 0.07, 0.0}, 1.5);
  table.reserve(20);
  const int64_t position = 13;
  const auto x = random_floats(12, 1, 1);
  const auto pull = random_floats(12, 2, 1);
  std::vector<float> y(12), back(12);
  rope(table, x.data(), &position, 1, 2, y.data());
  rope_gradient(table, pull.data(), &position, 1, 2, back.data());
  EXPECT_NEAR(dot(y, pull), dot(x, back), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Isa,
                         GradientsTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace adze::kernels
