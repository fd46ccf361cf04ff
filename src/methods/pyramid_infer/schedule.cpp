// Lengths of a prompt's layers: they depend on its length and the schedule alone, never on data.

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "core/error.h"
#include "methods/pyramid_infer/pyramid_infer.h"

namespace adze::methods::pyramid_infer {

int64_t Schedule::recent(int64_t tokens) const {
  const auto part =
      static_cast<int64_t>(std::floor(recent_ratio * static_cast<double>(tokens) + 1e-9));
  return std::min(std::clamp(part, least_recent, most_recent), std::max<int64_t>(tokens - 1, 0));
}

Schedule preset(const std::string& name) {
  // [11 §3] released configurations
  if (name == "llama2-7b") {
    return {.clamps = false};
  }
  if (name == "llama2-13b") {
    return {.decay = 0.8, .interval = 2, .clamps = false};
  }
  if (name == "llama2-70b") {
    return {.interval = 3, .clamps = false};
  }
  if (name == "adze") {  // [11 §3] our defaults
    return {.recent_ratio = 0.05,
            .least_recent = 8,
            .most_recent = 64,
            .first_layer = 0.25,
            .falls = false,
            .answer_decay = -1};
  }
  throw core::InvalidOption(
      "kv-policy pyramid: preset", name, "adze, llama2-7b, llama2-13b or llama2-70b");
}

// r_l [11 §2.3]
double layer_ratio(const Schedule& schedule, int64_t layer, int64_t num_layers) {
  const auto first = static_cast<int64_t>(schedule.first_layer * static_cast<double>(num_layers));
  if (layer < first || layer % schedule.interval != 0) {
    return 1;
  }
  if (!schedule.falls) {
    return schedule.decay;
  }
  const double place = static_cast<double>(layer - first) / static_cast<double>(num_layers - first);
  return (1 - schedule.decay) * (std::cos(std::numbers::pi * place) + 1) / 2 + schedule.decay;
}

// [11 §2.3 step 2 d]
int64_t context_left(
    const Schedule& schedule, int64_t prompt, int64_t layer, int64_t num_layers, int64_t context) {
  const double ratio = layer_ratio(schedule, layer, num_layers);
  const int64_t least = std::min(schedule.least_context, prompt - 1 - schedule.recent(prompt));
  if (ratio >= 1 || context <= least) {
    return context;
  }
  const auto left = static_cast<int64_t>(std::floor(static_cast<double>(context) * ratio));
  if (schedule.clamps) {
    return std::max(left, std::max<int64_t>(least, 0));
  }
  return left <= least ? context : left;
}

std::vector<int64_t> layer_lengths(const Schedule& schedule, int64_t prompt, int64_t num_layers) {
  const int64_t window = 1 + schedule.recent(prompt);
  int64_t context = prompt - window;
  std::vector<int64_t> lengths;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    lengths.push_back(context + window);
    context = context_left(schedule, prompt, layer, num_layers, context);
  }
  lengths.push_back(context + window);
  return lengths;
}

// [11 §2.4]
double kept_share(const Schedule& schedule, int64_t prompt, int64_t num_layers) {
  const std::vector<int64_t> lengths = layer_lengths(schedule, prompt, num_layers);
  const int64_t sum = std::accumulate(lengths.begin(), lengths.end() - 1, int64_t{0});
  return static_cast<double>(sum) / static_cast<double>(prompt * num_layers);
}

double solve_decay(Schedule schedule, double share, int64_t prompt, int64_t num_layers) {
  double low = 0;  // keeps too little or just enough
  double high = 1;
  schedule.decay = high;
  if (kept_share(schedule, prompt, num_layers) <= share) {
    return high;
  }
  constexpr int kHalvings = 40;
  for (int i = 0; i < kHalvings; ++i) {
    schedule.decay = (low + high) / 2;
    (kept_share(schedule, prompt, num_layers) <= share ? low : high) = schedule.decay;
  }
  return low;
}

// [11 §2.3 step 2 b]
std::vector<float> vote_weights(const Schedule& schedule, int64_t window) {
  std::vector<float> weights(static_cast<size_t>(window), 1.0F);
  for (int64_t row = 0; row < window && window > 1; ++row) {
    weights[static_cast<size_t>(row)] =
        static_cast<float>(1 + (schedule.distance_weight - 1) * static_cast<double>(row) /
                                   static_cast<double>(window - 1));
  }
  return weights;
}

std::vector<int64_t> rows_to_keep(
    std::span<const float> scores, int64_t length, int64_t window, int64_t kept, int64_t sinks) {
  const int64_t context = length - window;
  std::vector<int64_t> order(static_cast<size_t>(context));
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](int64_t row) {
    return row < sinks ? INFINITY : scores[static_cast<size_t>(row)];  // [11 §2.3 step 2 c]
  };
  // [11 §2.3 step 2 e]; ties: the lower index first
  std::nth_element(order.begin(), order.begin() + kept, order.end(), [&](int64_t a, int64_t b) {
    return score(a) != score(b) ? score(a) > score(b) : a < b;
  });
  order.resize(static_cast<size_t>(kept));
  std::sort(order.begin(), order.end());
  for (int64_t row = context; row < length; ++row) {  // [11 §2.3 step 2 f]
    order.push_back(row);
  }
  return order;
}

}  // namespace adze::methods::pyramid_infer
