#include "methods/pyramid_infer/pyramid_infer.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::methods::pyramid_infer {
namespace {

using Lengths = std::vector<int64_t>;

// [11 §6.2], computed by hand there.
TEST(PyramidInfer, LengthsAreThoseOfTheWorkedExample) {
  const Schedule schedule{.recent_ratio = 0.2, .decay = 0.5, .least_context = 4, .clamps = false};
  const double ratios[] = {1, 0.9268, 0.75, 0.5732};
  for (int64_t layer = 0; layer < 4; ++layer) {
    EXPECT_NEAR(layer_ratio(schedule, layer, 4), ratios[layer], 1e-4);
  }
  EXPECT_EQ(layer_lengths(schedule, 20, 4), (Lengths{20, 20, 18, 14, 10}));
  const Lengths released = layer_lengths(preset("llama2-7b"), 512, 32);
  EXPECT_EQ(Lengths(released.begin(), released.begin() + 6),
            (Lengths{512, 512, 511, 510, 509, 507}));
  EXPECT_EQ(released[16], 408);
  EXPECT_EQ(released[31], 186);
  EXPECT_EQ(released[32], 177);
}

// [11 §2.4]
TEST(PyramidInfer, ReleasedPresetsKeepWhatTheTableSays) {
  EXPECT_NEAR(kept_share(preset("llama2-7b"), 512, 32), 0.757, 5e-4);
  EXPECT_NEAR(kept_share(preset("llama2-7b"), 2048, 32), 0.765, 5e-4);
  EXPECT_NEAR(kept_share(preset("llama2-13b"), 2048, 40), 0.723, 5e-4);
  EXPECT_NEAR(kept_share(preset("llama2-70b"), 2048, 80), 0.780, 5e-4);
  EXPECT_EQ(kept_share(preset("llama2-7b"), 64, 32), 1);
  Schedule steepest = preset("llama2-7b");
  steepest.decay = 0;
  EXPECT_NEAR(kept_share(steepest, 2048, 32), 0.477, 2e-3);
}

// [11 §2.4]: p for a share, at 2,048 tokens and 32 layers.
TEST(PyramidInfer, DecayIsSolvedForAShare) {
  const auto decay = [](double share, double recent_ratio) {
    Schedule schedule = preset("llama2-7b");
    schedule.recent_ratio = recent_ratio;
    return solve_decay(schedule, share, 2048, 32);
  };
  EXPECT_NEAR(decay(0.60, 0.2), 0.706, 2e-3);
  EXPECT_NEAR(decay(0.50, 0.2), 0.207, 2e-3);
  EXPECT_NEAR(decay(0.50, 0.1), 0.569, 2e-3);
  EXPECT_NEAR(decay(0.50, 0.05), 0.649, 2e-3);
  EXPECT_NEAR(decay(0.454, 0.1), 0.359, 2e-3);
  EXPECT_NEAR(decay(0.454, 0.05), 0.505, 2e-3);
  EXPECT_EQ(decay(1, 0.2), 1);
}

TEST(PyramidInfer, ADecayOfOneCutsNothing) {
  Schedule schedule = preset("llama2-7b");
  schedule.decay = 1;
  EXPECT_EQ(layer_lengths(schedule, 300, 8), Lengths(9, 300));
}

// [11 §7.7]: the release's rule keeps everything where a cut would pass the least context.
TEST(PyramidInfer, AnAggressiveCutStopsAtTheLeastContext) {
  Schedule schedule{.recent_ratio = 0.1, .decay = 0.1, .falls = false, .least_context = 64};
  EXPECT_EQ(context_left(schedule, 200, 1, 4, 100), 64);
  schedule.clamps = false;
  EXPECT_EQ(context_left(schedule, 200, 1, 4, 100), 100);
}

// [11 §6.3]
TEST(PyramidInfer, VotesAndChoiceAreThoseOfTheWorkedExample) {
  const std::vector<float> weights = vote_weights(preset("llama2-7b"), 3);
  EXPECT_FLOAT_EQ(weights[0], 1);
  EXPECT_FLOAT_EQ(weights[1], 1.1F);
  EXPECT_FLOAT_EQ(weights[2], 1.2F);
  const float rows[3][6] = {{.30F, .10F, .05F, .20F, .05F, .10F},
                            {.25F, .05F, .15F, .05F, .10F, .05F},
                            {.20F, .02F, .30F, .03F, .05F, .10F}};
  const float expected[] = {.2717F, .0597F, .1917F, .0970F, .0733F, .0917F};
  std::vector<float> scores(6);
  for (int row = 0; row < 3; ++row) {
    for (size_t i = 0; i < 6; ++i) {
      scores[i] += weights[static_cast<size_t>(row)] * rows[row][i] / 3;
    }
  }
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(scores[i], expected[i], 1e-4);
  }
  EXPECT_EQ(rows_to_keep(scores, 9, 3, 3, 0), (Lengths{0, 2, 3, 6, 7, 8}));
  EXPECT_EQ(rows_to_keep(scores, 9, 3, 3, 2), (Lengths{0, 1, 2, 6, 7, 8}));
}

TEST(PyramidInfer, AShareBelowTheFloorNamesTheFloor) {
  EXPECT_NO_THROW(make_policy({}));
  try {
    make_policy({.preset = "llama2-7b", .keep = 0.46});
    FAIL();
  } catch (const core::InvalidOption& error) {
    EXPECT_NE(std::string(error.what()).find("0.47"), std::string::npos) << error.what();
  }
  EXPECT_NO_THROW(make_policy({.preset = "llama2-7b", .keep = 0.46, .recent_ratio = 0.1}));
  EXPECT_THROW(make_policy({.preset = "llama3"}), core::InvalidOption);
  EXPECT_THROW(make_policy({.recent_ratio = 0.7}), core::InvalidOption);
}

}  // namespace
}  // namespace adze::methods::pyramid_infer
