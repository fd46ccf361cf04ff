#pragma once
// Policies that users compare with. Each keeps the tokens that score best, of each kv head its own
// where scores differ by head; when and how many is the budget's.

#include "kv/budget_policy.h"

namespace adze::kv {

// Attention sinks and a recent window: Xiao et al., "Efficient streaming language models with
// attention sinks", arXiv:2309.17453, section 3.2. Positions are ranks in the cache.
struct WindowOptions {
  int64_t sinks = 4;      // first tokens that always stay
  int64_t window = 1020;  // last tokens that stay; 1024 in all, whole pages
  double keep = 1;        // and at most this share of the tokens seen

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("sinks", self.sinks, "first tokens that always stay, 0 to 1048576");
    visit("window", self.window, "last tokens that stay at least, 1 to 1048576");
    visit("keep", self.keep, "share of the tokens seen that stays at most, above 0, at most 1");
  }
};
KvPolicyPtr make_window_policy(const WindowOptions& options);

// Heavy hitters: half of the budget for the last tokens, half for those that have received most
// attention from all rows so far. Zhang et al., "H2O", arXiv:2306.14048, algorithm 1.
struct H2oOptions : Budget {
  H2oOptions() : Budget{.keep = 0.5, .tokens = 0, .sinks = 0, .recent = 0} {}
  bool ranks = false;
  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    Budget::fields(self, visit);
    visit("ranks", self.ranks, "positions are ranks in the cache, so that a text may be endless");
  }
};
KvPolicyPtr make_h2o_policy(const H2oOptions& options);

// The prompt's last rows vote, votes spread to neighbours (maximum over `pool` tokens), once when
// the prompt is in. Li et al., "SnapKV", arXiv:2404.14469, section 4.
struct SnapKvOptions : Budget {
  SnapKvOptions() : Budget{.keep = 0.5, .tokens = 0, .sinks = 0, .recent = 32} {}
  int64_t pool = 7;  // tokens whose votes are shared; odd
  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    Budget::fields(self, visit);
    visit("pool", self.pool, "neighbouring tokens that share their votes, odd, 1 to 255");
  }
};
KvPolicyPtr make_snapkv_policy(const SnapKvOptions& options);

// SnapKV with more tokens in the first layers than in the last ones. Cai et al., "PyramidKV",
// arXiv:2406.02069, section 4.2: budgets fall linearly, the last layer's is (mean - recent) / beta.
struct PyramidKvOptions : SnapKvOptions {
  double beta = 20;
  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    SnapKvOptions::fields(self, visit);
    visit("beta", self.beta, "mean over the last layer's budget, 1 to 1000");
  }
};
KvPolicyPtr make_pyramidkv_policy(const PyramidKvOptions& options);

// What the newest row looks at, all heads alike. Oren et al., "Transformers are multi-state RNNs"
// (TOVA), arXiv:2401.06104, section 4.
struct TovaOptions : Budget {
  TovaOptions() : Budget{.keep = 0.5, .tokens = 0, .sinks = 0, .recent = 1} {}
  void validate() const;
};
KvPolicyPtr make_tova_policy(const TovaOptions& options);

// Short keys: Devoto et al., "A simple and effective L2 norm-based strategy for KV cache
// compression", arXiv:2406.11430, section 3.
struct KnormOptions : Budget {
  KnormOptions() : Budget{.keep = 0.5, .tokens = 0, .sinks = 4, .recent = 32} {}
  void validate() const;
};
KvPolicyPtr make_knorm_policy(const KnormOptions& options);

// Keys that point elsewhere than the mean of all directions: Park et al., "KeyDiff",
// arXiv:2504.15364, section 3.
struct KeyDiffOptions : Budget {
  KeyDiffOptions() : Budget{.keep = 0.5, .tokens = 0, .sinks = 4, .recent = 32} {}
  void validate() const;
};
KvPolicyPtr make_keydiff_policy(const KeyDiffOptions& options);

}  // namespace adze::kv
