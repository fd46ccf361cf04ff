#pragma once
// Endless dialogue in a cache of fixed size: Yao et al., "SirLLM: Streaming Infinite Retentive
// LLM", arXiv:2405.12528. Each token carries its surprisal; when a turn does not fit, the first
// tokens, the most surprising ones and the newest stay. What is remembered fades with each turn.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/cache_registry.h"
#include "kv/kv_policy.h"

namespace adze::methods::sirllm {

struct SirLlmOptions {
  int64_t tokens = 2048;  // in the cache, at most
  int64_t sinks = 4;      // first tokens that always stay
  int64_t recent = -1;    // newest that stay beside the surprising ones; -1: max(64, tokens / 16)
  double decay = 0.95;    // of all surprisals, a turn; 1: memories never fade
  double keep = 1;        // share of the tokens seen that stays, at most

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("tokens", self.tokens, "tokens in the cache at most, 16 to 1048576");
    visit("sinks", self.sinks, "first tokens that always stay, 0 to tokens - 8");
    visit("recent", self.recent, "newest tokens that stay anyway; -1 takes max(64, tokens / 16)");
    visit("decay", self.decay, "what a turn leaves of the surprisals before it, 0 to 1");
    visit("keep", self.keep, "share of the tokens seen that stays at most, above 0, at most 1");
  }
};

// Sizes of one eviction (§2.1).
struct Capacity {
  int64_t tokens;  // S + R + T
  int64_t sinks;   // S
  int64_t recent;  // R
};

// The ranks that stay so that `incoming` tokens fit (§2.4): sinks, the T - incoming most
// surprising (of equal ones the newer), then the newest until tokens - incoming are kept. All of
// them where they fit. incoming <= tokens - sinks.
std::vector<int32_t> ranks_to_keep(std::span<const float> surprisals,
                                   const Capacity& capacity,
                                   int64_t incoming);

kv::KvPolicyPtr make_policy(const SirLlmOptions& options);
kv::PolicyEntry policy_entry();

}  // namespace adze::methods::sirllm
