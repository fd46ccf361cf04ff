#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::model {
namespace {

constexpr int64_t kHeadDim = 64;

Rope plain(double base = 10000) {
  Rope rope;
  rope.base = base;
  rope.dims = kHeadDim;
  return rope;
}

Rope scaled(RopeScalingKind kind, double factor, int64_t original) {
  Rope rope = plain();
  rope.scaling.kind = kind;
  rope.scaling.factor = factor;
  rope.scaling.original_context = original;
  return rope;
}

TEST(Rope, PlainFrequenciesFallGeometrically) {
  const auto found = rope_frequencies(plain(500000), kHeadDim, 100);
  ASSERT_EQ(found.radians.size(), 32U);
  EXPECT_EQ(found.radians[0], 1);
  for (size_t i = 0; i + 1 < found.radians.size(); ++i) {
    EXPECT_NEAR(found.radians[i + 1] / found.radians[i], std::pow(500000, -1.0 / 32), 1e-12);
  }
  EXPECT_EQ(found.magnitude, 1);
}

TEST(Rope, LinearDividesEveryFrequency) {
  const auto before = rope_frequencies(plain(), kHeadDim, 100).radians;
  const auto after =
      rope_frequencies(scaled(RopeScalingKind::kLinear, 8, 4096), kHeadDim, 100).radians;
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_DOUBLE_EQ(after[i], before[i] / 8);
  }
}

TEST(Rope, DynamicChangesNothingWithinTheContextAndStretchesTheLongestWaveBeyond) {
  const Rope rope = scaled(RopeScalingKind::kDynamic, 2, 1024);
  const auto before = rope_frequencies(plain(), kHeadDim, 1024).radians;
  EXPECT_EQ(rope_frequencies(rope, kHeadDim, 1000).radians, before);
  const auto after = rope_frequencies(rope, kHeadDim, 2048).radians;
  EXPECT_EQ(after[0], before[0]);
  // The base is chosen so that the longest wave is stretched by factor * 2048 / 1024 - (factor -
  // 1).
  EXPECT_NEAR(before[31] / after[31], 3, 1e-9);
}

TEST(Rope, YarnKeepsShortWavesDividesLongOnesAndRampsBetween) {
  const Rope rope = scaled(RopeScalingKind::kYarn, 4, 2048);
  const auto before = rope_frequencies(plain(), kHeadDim, 1).radians;
  const auto found = rope_frequencies(rope, kHeadDim, 1);
  double last = 1;
  for (size_t i = 0; i < before.size(); ++i) {
    const double turns = 2048 * before[i] / (2 * std::numbers::pi);
    const double kept = found.radians[i] / before[i];
    if (turns > 40) {  // beyond beta_fast, 32, and its rounding to a whole dimension
      EXPECT_DOUBLE_EQ(kept, 1);
    } else if (turns < 0.5) {  // below beta_slow, 1
      EXPECT_DOUBLE_EQ(kept, 0.25);
    }
    EXPECT_LE(kept, last);
    last = kept;
  }
  EXPECT_NEAR(found.magnitude, 0.1 * std::log(4.0) + 1, 1e-12);
}

TEST(Rope, YarnMagnitudeFollowsItsSettings) {
  Rope rope = scaled(RopeScalingKind::kYarn, 40, 4096);
  rope.scaling.mscale = 0.7;
  rope.scaling.mscale_all_dim = 0.7;
  EXPECT_DOUBLE_EQ(rope_frequencies(rope, kHeadDim, 1).magnitude, 1);
  rope.scaling.attention_factor = 0.5;
  EXPECT_DOUBLE_EQ(rope_frequencies(rope, kHeadDim, 1).magnitude, 0.5);
}

TEST(Rope, Llama3IsContinuousAtBothEndsOfItsRamp) {
  Rope rope = scaled(RopeScalingKind::kLlama3, 8, 8192);
  rope.base = 500000;
  const auto before = rope_frequencies(plain(500000), kHeadDim, 1).radians;
  const auto after = rope_frequencies(rope, kHeadDim, 1).radians;
  for (size_t i = 0; i < before.size(); ++i) {
    const double turns = 8192 * before[i] / (2 * std::numbers::pi);
    const double kept = std::clamp((turns - 1) / (4 - 1), 0.0, 1.0);
    EXPECT_NEAR(after[i], before[i] * (kept + (1 - kept) / 8), 1e-15);
  }
}

TEST(Rope, LongRopeChoosesItsDivisorsByTheContext) {
  Rope rope = scaled(RopeScalingKind::kLongRope, 32, 4096);
  rope.scaling.short_divisors.assign(32, 2);
  rope.scaling.long_divisors.assign(32, 5);
  const double plain_last = rope_frequencies(plain(), kHeadDim, 1).radians[31];
  EXPECT_DOUBLE_EQ(rope_frequencies(rope, kHeadDim, 4096).radians[31], plain_last / 2);
  EXPECT_DOUBLE_EQ(rope_frequencies(rope, kHeadDim, 4097).radians[31], plain_last / 5);
  EXPECT_NEAR(rope_frequencies(rope, kHeadDim, 1).magnitude,
              std::sqrt(1 + std::log(32.0) / std::log(4096.0)),
              1e-12);
}

TEST(Rope, DimensionsThatDoNotTurnHaveNoFrequency) {
  Rope rope = plain();
  rope.dims = 48;
  const auto radians = rope_frequencies(rope, kHeadDim, 1).radians;
  ASSERT_EQ(radians.size(), 32U);
  EXPECT_GT(radians[23], 0);
  for (size_t i = 24; i < 32; ++i) {
    EXPECT_EQ(radians[i], 0);
  }
}

TEST(RotaryOrder, IsAPermutationThatPutsPairsHalfAHeadApart) {
  for (const int64_t head_dim : {16, 64, 96}) {
    for (int64_t dims = 2; dims <= head_dim; dims += 2) {
      const auto order = rotary_order(dims, head_dim);
      EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(),
                static_cast<size_t>(head_dim));
      for (int64_t i = 0; i < dims / 2; ++i) {
        EXPECT_EQ(order[static_cast<size_t>(i)], i);
        EXPECT_EQ(order[static_cast<size_t>(i + head_dim / 2)], i + dims / 2);
      }
    }
    std::vector<int64_t> identity(static_cast<size_t>(head_dim));
    for (int64_t i = 0; i < head_dim; ++i) {
      identity[static_cast<size_t>(i)] = i;
    }
    EXPECT_EQ(rotary_order(head_dim, head_dim), identity);
  }
}

TEST(Rope, ValidationNamesTheField) {
  const auto refused = [](const Rope& rope, const char* field) {
    try {
      rope.validate(kHeadDim);
      ADD_FAILURE() << field << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  };
  Rope rope = plain();
  EXPECT_NO_THROW(rope.validate(kHeadDim));
  rope.dims = 3;
  refused(rope, "dims");
  rope = plain(std::nan(""));
  refused(rope, "base");
  rope = scaled(RopeScalingKind::kYarn, -1, 4096);
  refused(rope, "factor");
  rope = scaled(RopeScalingKind::kLlama3, 8, 0);
  refused(rope, "original context");
  rope = scaled(RopeScalingKind::kLongRope, 8, 4096);
  refused(rope, "short factors");
}

}  // namespace
}  // namespace adze::model
