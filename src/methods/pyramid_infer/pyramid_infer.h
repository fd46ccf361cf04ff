#pragma once
// PyramidInfer: Yang et al., arXiv:2405.12532. A prompt narrows from layer to layer: tokens that
// the prompt's last rows do not look at go on to no further layer, so neither their keys and values
// nor their products are computed there. Answers are compressed in small blocks as they leave the
// window of last rows.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kv/cache_registry.h"
#include "kv/kv_policy.h"

namespace adze::methods::pyramid_infer {

struct PyramidOptions {
  std::string preset = "adze";  // where the options below are not given
  double keep = 0.5;         // share of a prompt's keys and values; 0: the preset's decay as it is
  double recent_ratio = -1;  // rho: part of the prompt that votes
  int64_t sinks = 4;         // first tokens that always stay

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("preset", self.preset, "adze, or the release's llama2-7b, llama2-13b, llama2-70b");
    visit(
        "keep",
        self.keep,
        "share of a prompt's keys and values that stays, from the preset's floor to 1; 0 takes the "
        "preset's decay");
    visit(
        "recent-ratio", self.recent_ratio, "part of the prompt that votes, 0 to 0.5; -1: preset's");
    visit("sinks", self.sinks, "first tokens that always stay, 0 to 1024");
  }
};

// Everything that fixes the lengths of a prompt's layers (§3).
struct Schedule {
  double recent_ratio = 0.2;  // rho
  int64_t least_recent = 0;   // rows that vote, at least and at most
  int64_t most_recent = 1 << 20;
  double first_layer = 0;        // part of the layers that are not cut
  double decay = 0.9;            // p
  bool falls = true;             // ratios fall along a cosine to p; else each cut is p
  int64_t interval = 1;          // layers from cut to cut
  int64_t least_context = 64;    // min_context_length
  bool clamps = true;            // a cut below least_context stops there; the release cuts nothing
  double distance_weight = 1.2;  // of the newest vote; the oldest counts 1
  int64_t block = 16;            // E: tokens of an answer that are compressed together
  double answer_compress = 0.9;  // gen_compress_ratio
  double answer_decay = 0.1;     // gen_decay_ratio; below 0: a layer's share of the prompt

  // R (§2.1): last rows beside the newest one.
  int64_t recent(int64_t tokens) const;
};
// Throws core::InvalidOption for an unknown name.
Schedule preset(const std::string& name);

// r_l (§2.3): part of the context that layer `layer` lets through.
double layer_ratio(const Schedule& schedule, int64_t layer, int64_t num_layers);
// Context that goes on of `context` tokens (§2.3 step 2 d).
int64_t context_left(
    const Schedule& schedule, int64_t prompt, int64_t layer, int64_t num_layers, int64_t context);
// n_l of every layer and, last, the rows that leave the model (§2.3).
std::vector<int64_t> layer_lengths(const Schedule& schedule, int64_t prompt, int64_t num_layers);
// Part of all keys and values that a prompt keeps.
double kept_share(const Schedule& schedule, int64_t prompt, int64_t num_layers);
// The largest decay that keeps at most `share`, by bisection (§2.4); 0 where none does.
double solve_decay(Schedule schedule, double share, int64_t prompt, int64_t num_layers);

// Rows of the votes, oldest first (§2.3 step 2 b).
std::vector<float> vote_weights(const Schedule& schedule, int64_t window);
// Of `length` rows with scores of the first length - window, those that go on (§2.3 step 2 c-f).
std::vector<int64_t> rows_to_keep(
    std::span<const float> scores, int64_t length, int64_t window, int64_t kept, int64_t sinks);

kv::KvPolicyPtr make_policy(const PyramidOptions& options);
kv::PolicyEntry policy_entry();

}  // namespace adze::methods::pyramid_infer
