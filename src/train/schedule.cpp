#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace adze::train {

void ScheduleOptions::validate() const {
  if (!(learning_rate > 0 && learning_rate <= 10)) {
    throw core::InvalidOption(
        "learning-rate", fmt::format("{}", learning_rate), "above 0, up to 10");
  }
  if (schedule != "cosine" && schedule != "linear" && schedule != "wsd" && schedule != "constant") {
    throw core::InvalidOption("schedule", schedule, "cosine, linear, wsd or constant");
  }
  if (warmup_steps < 0) {
    throw core::InvalidOption("warmup-steps", std::to_string(warmup_steps), "0 or more");
  }
  if (!(final_rate >= 0 && final_rate <= 1)) {
    throw core::InvalidOption("final-rate", fmt::format("{}", final_rate), "0 to 1");
  }
  if (!(decay_share >= 0 && decay_share <= 1)) {
    throw core::InvalidOption("decay-share", fmt::format("{}", decay_share), "0 to 1");
  }
}

double learning_rate_at(const ScheduleOptions& options, int64_t step, int64_t steps) {
  if (step < options.warmup_steps) {
    return options.learning_rate * static_cast<double>(step + 1) /
           static_cast<double>(options.warmup_steps);
  }
  int64_t begin = options.warmup_steps;  // the rate falls after this step
  if (options.schedule == "wsd") {
    const auto falling =
        static_cast<int64_t>(std::ceil(options.decay_share * static_cast<double>(steps)));
    begin = std::max(begin, steps - 1 - falling);
  }
  const auto length = static_cast<double>(std::max<int64_t>(1, steps - 1 - begin));
  const double done = std::clamp(static_cast<double>(step - begin) / length, 0.0, 1.0);
  double share = 1;
  if (options.schedule == "cosine") {
    share = (1 + std::cos(std::numbers::pi * done)) / 2;
  } else if (options.schedule != "constant") {
    share = 1 - done;
  }
  return options.learning_rate * (options.final_rate + (1 - options.final_rate) * share);
}

}  // namespace adze::train
