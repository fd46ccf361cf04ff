#include "train/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/options.h"
#include "train/optimizer.h"
#include "train/trainer.h"

namespace adze::train {
namespace {

TEST(Schedule, WarmsUpAndFalls) {
  const ScheduleOptions options{
      .learning_rate = 2, .schedule = "linear", .warmup_steps = 4, .final_rate = 0.5};
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0, 15), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 3, 15), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 4, 15), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 9, 15), 1.5);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 14, 15), 1);
}

TEST(Schedule, EachKindEndsAtItsFinalRate) {
  for (const char* name : {"cosine", "linear", "wsd"}) {
    ScheduleOptions options{.learning_rate = 1, .schedule = name, .final_rate = 0.1};
    double before = 1;
    for (int64_t step = 0; step < 100; ++step) {
      const double rate = learning_rate_at(options, step, 100);
      EXPECT_LE(rate, before) << name;
      before = rate;
    }
    EXPECT_NEAR(before, 0.1, 1e-12) << name;
    // One step, or all of them warm-up: no division by zero.
    EXPECT_TRUE(std::isfinite(learning_rate_at(options, 0, 1)));
    options.warmup_steps = 200;
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 99, 100), 0.5);
  }
  const ScheduleOptions cosine{.learning_rate = 1, .schedule = "cosine", .final_rate = 0};
  EXPECT_NEAR(learning_rate_at(cosine, 50, 101), 0.5, 1e-12);
  const ScheduleOptions wsd{
      .learning_rate = 1, .schedule = "wsd", .final_rate = 0, .decay_share = 0.25};
  EXPECT_DOUBLE_EQ(learning_rate_at(wsd, 74, 101), 1);
  EXPECT_LT(learning_rate_at(wsd, 75, 101), 1);
  const ScheduleOptions constant{.learning_rate = 1, .schedule = "constant"};
  EXPECT_DOUBLE_EQ(learning_rate_at(constant, 99, 100), 1);
}

TEST(Schedule, WrongOptionsAreNamed) {
  EXPECT_THROW((ScheduleOptions{.learning_rate = 0}).validate(), core::InvalidOption);
  EXPECT_THROW((ScheduleOptions{.learning_rate = std::nan("")}).validate(), core::InvalidOption);
  EXPECT_THROW((ScheduleOptions{.warmup_steps = -1}).validate(), core::InvalidOption);
  EXPECT_THROW((ScheduleOptions{.final_rate = 2}).validate(), core::InvalidOption);
}

TEST(TrainOptions, EveryMemberIsAFlag) {
  EXPECT_EQ(core::visited_field_count<ScheduleOptions>(), core::field_count<ScheduleOptions>());
  EXPECT_EQ(core::visited_field_count<ModelShapeOptions>(), core::field_count<ModelShapeOptions>());
  EXPECT_EQ(core::visited_field_count<TrainOptions>(), core::field_count<TrainOptions>());
  EXPECT_EQ(core::visited_field_count<AdamWOptions>(), core::field_count<AdamWOptions>());
}

}  // namespace
}  // namespace adze::train
