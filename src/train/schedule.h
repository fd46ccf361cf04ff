#pragma once
// Learning rate by step.

#include <cstdint>
#include <string>

namespace adze::train {

struct ScheduleOptions {
  double learning_rate = 1e-3;
  std::string schedule = "cosine";
  int64_t warmup_steps = 0;
  double final_rate = 0.1;
  double decay_share = 0.2;

  void validate() const;  // throws InvalidOption: field, value, legal range

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("learning-rate", self.learning_rate, "the highest, a step; above 0, up to 10");
    visit("schedule",
          self.schedule,
          "after the warm-up: cosine, linear, wsd (constant, then falling) or constant");
    visit("warmup-steps", self.warmup_steps, "steps over which the rate rises to its highest");
    visit("final-rate", self.final_rate, "the last step's rate, as a share of the highest");
    visit("decay-share", self.decay_share, "wsd: share of the steps over which the rate falls");
  }
};

// Rate of step `step` of [0, steps). Rises linearly over the warm-up, whose last step has the
// highest rate, then falls to final_rate times that on the last step:
//   cosine (Loshchilov and Hutter, arXiv:1608.03983, eq. 5, one cycle), linear; wsd
//   (warm-up, stable, decay: Hu et al., arXiv:2404.06395) falls linearly over the last decay_share.
double learning_rate_at(const ScheduleOptions& options, int64_t step, int64_t steps);

}  // namespace adze::train
