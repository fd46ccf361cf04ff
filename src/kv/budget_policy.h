#pragma once
// What evicting policies have in common: how many tokens of a slot may stay, when they are counted,
// and the choice of the best ones.
//
// Tokens are counted when a prompt is in, then every 32 tokens. With an absolute limit a long
// prompt is cut on its way, whenever the limit is passed by a fixed number of tokens.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/kv_policy.h"

namespace adze::kv {

struct Budget {
  double keep = 1;      // share of the tokens seen that stays, in (0, 1]
  int64_t tokens = 0;   // and at most so many; 0: no limit
  int64_t sinks = 4;    // first tokens that always stay
  int64_t recent = 32;  // last tokens that always stay

  void validate(std::string_view policy) const;  // throws InvalidOption

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("keep", self.keep, "share of the tokens seen that stays, above 0, at most 1");
    visit("tokens", self.tokens, "tokens that stay at most, 1 to 1048576; 0: no limit");
    visit("sinks", self.sinks, "first tokens that always stay, 0 to 1048576");
    visit("recent", self.recent, "last tokens that always stay, 0 to 1048576");
  }
};

class BudgetPolicy : public KvPolicy {
 public:
  // prompt_only: cuts when a prompt is in and not again. prompt_slack: tokens by which a prompt may
  // pass the absolute limit.
  BudgetPolicy(const Budget& budget, bool prompt_only, int64_t prompt_slack);

  int64_t most_cached(int64_t text_tokens) const override;
  bool evicts() const override { return budget_.keep < 1 || budget_.tokens > 0; }
  bool prompt_only() const override { return prompt_only_; }
  int64_t least_cached() const override { return budget_.sinks + budget_.recent + 1; }
  int64_t rows_before_cut(const PolicyState& state, const Place& place) const override;
  bool cuts(const PolicyState& state, const Place& place) const override;

 protected:
  const Budget& budget() const { return budget_; }
  // Tokens of a slot that stay, on average over slots.
  int64_t target(const Place& place) const;

 private:
  Budget budget_;
  bool prompt_only_;
  int64_t prompt_slack_;
};

// The columns of the `count` best tokens of each head: the first `sinks` and the last `recent`,
// then by score [heads, length], of equal ones the earlier.
Columns best_columns(std::span<const float> scores,
                     int64_t heads,
                     int64_t length,
                     int64_t count,
                     int64_t sinks,
                     int64_t recent);

}  // namespace adze::kv
