#pragma once
// Rotary position embedding (Su et al., arXiv:2104.09864) as data: how fast each pair of dimensions
// turns, and the published ways to stretch that beyond the context of the training.

#include <cstdint>
#include <optional>
#include <vector>

namespace adze::model {

enum class RopeScalingKind {
  kNone,
  kLinear,    // positions divided by factor (Chen et al., arXiv:2306.15595)
  kDynamic,   // base raised with the context in use ("dynamic NTK")
  kYarn,      // Peng et al., arXiv:2309.00071, section 3.2 and 3.4
  kLlama3,    // Llama 3.1: long waves divided, short ones kept, a ramp between
  kLongRope,  // Ding et al., arXiv:2402.13753: a divisor for each pair, one set for short texts
  kDivisors   // a divisor for each pair, as GGUF's rope_freqs tensor gives them
};

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::kNone;
  double factor = 1;             // new context / trained context
  int64_t original_context = 0;  // positions of the training; yarn, llama3, longrope, dynamic
  // Magnitude of the rotated vectors; none: what the method derives from `factor`.
  std::optional<double> attention_factor;
  double beta_fast = 32;  // yarn: turns over the original context above which nothing is divided
  double beta_slow = 1;   // yarn: and below which all is
  bool truncate = true;   // yarn: the ramp's ends are whole dimensions
  double mscale = 0;      // yarn: see attention_magnitude
  double mscale_all_dim = 0;
  double low_frequency_factor = 1;     // llama3
  double high_frequency_factor = 4;    // llama3
  std::vector<double> short_divisors;  // longrope; divisors
  std::vector<double> long_divisors;   // longrope

  bool operator==(const RopeScaling&) const = default;
};

struct Rope {
  double base = 10000;
  int64_t dims = 0;  // dimensions of a head that turn, the first ones; even
  RopeScaling scaling;

  bool operator==(const Rope&) const = default;
  // Throws core::Error that names field, value and legal range.
  void validate(int64_t head_dim) const;
};

struct RopeFrequencies {
  std::vector<double> radians;  // [head_dim / 2] a position; pairs that do not turn have 0
  double magnitude = 1;         // of what turns
};

// context: positions that the text may reach. `dynamic` and `longrope` depend on it: it is the
// run's limit, not the text so far, or equal texts would give other rows when cut into other steps.
// Pair i is dimension i and i + head_dim / 2 in a head whose rows are ordered by rotary_order.
RopeFrequencies rope_frequencies(const Rope& rope, int64_t head_dim, int64_t context);

// order[i]: dimension of a stored head that goes to dimension i of ours, so that the pairs
// (j, j + dims / 2) of the stored head become (j, j + head_dim / 2). The identity where all turn.
std::vector<int64_t> rotary_order(int64_t dims, int64_t head_dim);

}  // namespace adze::model
