// Norms, activations, rope and the cross-entropy against their references and closed forms.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/float16.h"
#include "core/rng.h"
#include "kernels/activation/activation.h"
#include "kernels/half_floats.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/random_floats.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/simd.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"

namespace adze::kernels {
namespace {

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

struct LayerNormCase {
  bool delta;
  bool bias;
  double offset;  // added to every value
};

TEST_P(ElementwiseTest, LayerNormAgreesWithTheReference) {
  for (const auto& [with_delta, with_bias, offset] : {LayerNormCase{false, true, 0},
                                                      {true, true, 0},
                                                      {true, false, 1e4},
                                                      {false, true, 1e4},
                                                      {true, true, -1e4}}) {
    for (const int64_t columns : {16, 48, 384, 1024}) {
      for (const int64_t rows : {1, 3, 37}) {
        auto x = random_floats(rows * columns, 1, 3);
        for (float& value : x) {
          value += static_cast<float>(offset);
        }
        const auto delta = random_floats(rows * columns, 2, 3);
        const auto weight = random_floats(columns, 3, 1);
        const auto bias = random_floats(columns, 4, 1);
        std::vector<float> sum(x.size());
        std::vector<float> y(x.size());
        std::vector<float> slow_sum(x.size());
        std::vector<float> slow(x.size());
        LayerNorm norm{x.data(),
                       with_delta ? delta.data() : nullptr,
                       sum.data(),
                       weight.data(),
                       with_bias ? bias.data() : nullptr,
                       y.data(),
                       rows,
                       columns,
                       1e-5F};
        layer_norm(norm);
        norm.sum = slow_sum.data();
        norm.y = slow.data();
        layer_norm_reference(norm);
        EXPECT_EQ(sum, slow_sum);
        for (size_t i = 0; i < y.size(); ++i) {
          ASSERT_NEAR(y[i], slow[i], 4e-6 * std::max(1.0F, std::abs(slow[i])))
              << rows << "x" << columns << " offset " << offset;
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, LayerNormMayOverwriteItsInputs) {
  const auto x = random_floats(5 * 48, 1, 3);
  const auto delta = random_floats(5 * 48, 2, 3);
  const auto weight = random_floats(48, 3, 1);
  std::vector<float> sum(x.size());
  std::vector<float> y(x.size());
  const LayerNorm apart{
      x.data(), delta.data(), sum.data(), weight.data(), weight.data(), y.data(), 5, 48, 1e-5F};
  layer_norm(apart);
  // Sum and result over x, as a post-norm block has it; then the result over delta.
  std::vector<float> stream = x;
  LayerNorm norm = apart;
  norm.x = stream.data();
  norm.sum = stream.data();
  norm.y = stream.data();
  layer_norm(norm);
  EXPECT_EQ(stream, y);
  std::vector<float> added = delta;
  norm = apart;
  norm.delta = added.data();
  norm.y = added.data();
  layer_norm(norm);
  EXPECT_EQ(added, y);
}

TEST_P(ElementwiseTest, LayerNormOfEqualValuesIsTheBias) {
  const std::vector<float> x(48, 12345.678F);
  const auto weight = random_floats(48, 3, 1);
  const auto bias = random_floats(48, 4, 1);
  std::vector<float> y(48);
  layer_norm({x.data(), nullptr, nullptr, weight.data(), bias.data(), y.data(), 1, 48, 1e-12F});
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_NEAR(y[i], bias[i], 1e-5);
  }
}

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh};

double tolerance_of(Activation activation) {
  return activation == Activation::kSilu ? 4e-6 : 1e-6;
}

TEST_P(ElementwiseTest, ActivationsAgreeWithTheReference) {
  const auto gate = random_floats(30 * 48, 4, 20);
  const auto up = random_floats(30 * 48, 5, 2);
  for (const Activation activation : kActivations) {
    for (const float* factor : {up.data(), static_cast<const float*>(nullptr)}) {
      std::vector<float> y(gate.size());
      std::vector<float> slow(gate.size());
      activate(activation, gate.data(), factor, 30, 48, y.data());
      activate_reference(activation, gate.data(), factor, 30, 48, slow.data());
      for (size_t i = 0; i < y.size(); ++i) {
        const float scale = std::max(1.0F, std::abs(gate[i])) * (factor ? std::abs(up[i]) : 1.0F);
        ASSERT_NEAR(y[i], slow[i], tolerance_of(activation) * static_cast<double>(scale));
      }
    }
  }
}

// Steps of 1/4096 over all gates whose result is neither zero nor the gate itself, then outwards.
std::vector<float> dense_gates() {
  std::vector<float> gates;
  for (int i = -16 * 4096; i < 16 * 4096; ++i) {
    gates.push_back(static_cast<float>(i) / 4096);
  }
  for (float size = 1e-44F; size < 3e38F; size *= 1.7F) {
    gates.push_back(size);
    gates.push_back(-size);
  }
  for (const float extreme : {88.0F, 87.3F, 88.8F, 1e30F, 3.4e38F, 1.1754944e-38F, 1e-45F, 0.0F}) {
    gates.push_back(extreme);
    gates.push_back(-extreme);
  }
  gates.resize((gates.size() + 15) / 16 * 16);
  return gates;
}

TEST_P(ElementwiseTest, ActivationsAgreeWithClosedFormsEverywhere) {
  const auto gates = dense_gates();
  std::vector<float> y(gates.size());
  for (const Activation activation : kActivations) {
    activate(activation, gates.data(), nullptr, 1, static_cast<int64_t>(gates.size()), y.data());
    double worst = 0;
    for (size_t i = 0; i < gates.size(); ++i) {
      const auto x = static_cast<double>(gates[i]);
      double expected = x / (1 + std::exp(-x));
      if (activation == Activation::kGelu) {
        expected = x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
      } else if (activation == Activation::kGeluTanh) {
        expected = x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      }
      const double error =
          std::abs(static_cast<double>(y[i]) - expected) / std::max(1.0, std::abs(x));
      ASSERT_LE(error, tolerance_of(activation)) << "gate " << x;
      worst = std::max(worst, error);
    }
    RecordProperty("worst_error_" + std::to_string(static_cast<int>(activation)),
                   std::to_string(worst * 1e9) + "e-9");
  }
}

TEST_P(ElementwiseTest, ActivationsOfWhatIsNotFinite) {
  for (const Activation activation : kActivations) {
    std::vector<float> gate(16, 1.0F);
    gate[0] = INFINITY;
    gate[1] = -INFINITY;
    gate[2] = NAN;
    gate[3] = -NAN;
    std::vector<float> y(16);
    activate(activation, gate.data(), nullptr, 1, 16, y.data());
    EXPECT_EQ(y[0], INFINITY);
    if (activation == Activation::kSilu) {
      EXPECT_EQ(y[1], -INFINITY);
    } else {
      EXPECT_NEAR(y[1], 0.0F, 1e-36F);
    }
    EXPECT_TRUE(std::isnan(y[2]));
    EXPECT_TRUE(std::isnan(y[3]));
    EXPECT_TRUE(std::isfinite(y[4]));
  }
}

TEST_P(ElementwiseTest, SiluOfExtremeGatesStaysFinite) {
  std::vector<float> gate(16, -200.0F);
  gate[1] = 200.0F;
  const std::vector<float> up(16, 1.0F);
  std::vector<float> y(16);
  activate(Activation::kSilu, gate.data(), up.data(), 1, 16, y.data());
  EXPECT_NEAR(y[0], 0.0F, 1e-30F);
  EXPECT_FLOAT_EQ(y[1], 200.0F);
}

TEST_P(ElementwiseTest, HalfFloatsAreRoundedAsOneByOne) {
  std::vector<float> numbers = random_floats(1024, 1, 70000);
  for (const float scale : {1.0F, 1e-3F, 1e-6F}) {
    for (const float number : random_floats(1024, 2, scale)) {
      numbers.push_back(number);
    }
  }
  // Ties, the ends of the range, and what has no number.
  for (const float number : {0.0F,
                             -0.0F,
                             1.00048828125F,
                             1.00146484375F,
                             65504.0F,
                             65519.99F,
                             65520.0F,
                             -65520.0F,
                             6.1e-5F,
                             5.96e-8F,
                             2.98e-8F,
                             2.9e-8F,
                             INFINITY,
                             -INFINITY,
                             NAN,
                             1e30F}) {
    numbers.push_back(number);
  }
  std::vector<uint16_t> halves(numbers.size());
  halves_from_floats(numbers.data(), static_cast<int64_t>(numbers.size()), halves.data());
  std::vector<float> back(numbers.size());
  floats_from_halves(halves.data(), static_cast<int64_t>(numbers.size()), back.data());
  for (size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(halves[i], core::half_from_float(numbers[i])) << numbers[i];
    if (!std::isnan(numbers[i])) {
      EXPECT_EQ(back[i], core::float_from_half(halves[i])) << numbers[i];
    }
  }
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

TEST(Rope, GivenFrequenciesAreScaledByTheMagnitudeExceptWhereNothingTurns) {
  RopeTable table({0.5, 0.0}, 1.25);
  table.reserve(4);
  const std::vector<float> source = {1, 2, 0, 3};
  std::vector<float> target(4);
  const int64_t position = 3;
  rope(table, source.data(), &position, 1, 1, target.data());
  EXPECT_NEAR(target[0], 1.25 * std::cos(1.5), 1e-6);
  EXPECT_NEAR(target[2], 1.25 * std::sin(1.5), 1e-6);
  EXPECT_EQ(target[1], 2.0F);
  EXPECT_EQ(target[3], 3.0F);
}

TEST(Rope, FrequenciesOfABaseGiveTheBitsOfTheSimpleTable) {
  RopeTable simple(8, 10000.0);
  RopeTable given({1.0, std::pow(1e4, -0.25), std::pow(1e4, -0.5), std::pow(1e4, -0.75)}, 1.0);
  simple.reserve(100);
  given.reserve(100);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(simple.cosine(99)[i], given.cosine(99)[i]);
    EXPECT_EQ(simple.sine(99)[i], given.sine(99)[i]);
  }
}

}  // namespace
}  // namespace adze::kernels
