#pragma once
// Choosing among the logits of one row without sorting it: block maxima tell where large logits can
// be, thresholds cut the row down to a few candidates, and only those are ranked. Internal to
// the sampler.
//
// The order of tokens is by logit, the largest first, and by id among equals.

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace adze::infer {

constexpr float kLogitInfinity = std::numeric_limits<float>::infinity();

struct Candidate {
  float logit;
  int32_t token;
  float weight;  // proportional to its probability
};

inline bool ranks_before(const Candidate& left, const Candidate& right) {
  return left.logit != right.logit ? left.logit > right.logit : left.token < right.token;
}

// Fills the maximum of each block of logits and returns the largest. *poison becomes NaN if a value
// is NaN or infinite, else stays 0.
float find_maxima(std::span<const float> logits, std::vector<float>& maxima, float* poison);

// Sum of exp(logit - largest).
double total_weight(std::span<const float> logits, float largest);

// weight = exp((logit - largest) / temperature); returns their sum.
double set_weights(std::vector<Candidate>& candidates, float largest, float temperature);

// All logits at or above `floor`, by id; never one of -inf.
void gather_above(std::span<const float> logits,
                  std::span<const float> maxima,
                  float floor,
                  std::vector<Candidate>& candidates);

// A floor with at least `count` logits at or above it, and few more. 0 < count <= logits.size().
float floor_of_largest(std::span<const float> maxima, size_t count, std::vector<float>& scratch);

// Drops all but the `count` best; what is left has no order.
void keep_best(std::vector<Candidate>& candidates, size_t count);

// The last candidate of the shortest run, from the best downwards, whose weight reaches `needed`.
// Linear time; reorders.
Candidate weight_cutoff(std::vector<Candidate>& candidates, double needed);

// The same over all logits, for `share` of their weight.
Candidate share_cutoff(std::span<const float> logits,
                       std::span<const float> maxima,
                       float largest,
                       double share,
                       std::vector<Candidate>& scratch);

}  // namespace adze::infer
