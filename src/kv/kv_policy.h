#pragma once
// Which cached tokens stay. A policy owns no storage; what it has to remember of a sequence is its
// PolicyState, which is forked, truncated, saved and counted with the sequence.

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "core/options.h"
#include "core/state_stream.h"
#include "kv/kv_store.h"

namespace adze::kv {

class PolicyState {
 public:
  virtual ~PolicyState() = default;
  virtual std::unique_ptr<PolicyState> fork() const { return std::make_unique<PolicyState>(); }
  virtual void truncate(int64_t /*tokens*/) {}
  virtual void save(core::StateWriter& /*writer*/) const {}
  virtual void load(core::StateReader& /*reader*/) {}
  virtual int64_t bytes() const { return 0; }
};

struct Needs {
  // A token's position is its rank in the cache, so that a text may outgrow the trained context;
  // the store then keeps keys unrotated.
  bool rank_positions = false;
};

class KvPolicy {
 public:
  virtual ~KvPolicy() = default;

  virtual std::string name() const = 0;  // with its options, as registered
  virtual Needs needs() const { return {}; }
  virtual std::unique_ptr<PolicyState> new_state() const { return std::make_unique<PolicyState>(); }

  // Most tokens in a slot at any time, for a text of `text_tokens`: sizes the pool.
  virtual int64_t most_cached(int64_t text_tokens) const { return text_tokens; }
  // True where the text may be longer than the context.
  virtual bool evicts() const { return false; }
  // Whether the same tokens give the same cache again, however they are cut into steps.
  virtual bool recomputable() const { return false; }
  // Rows that may be appended before the policy has to look again: cuts fall at fixed places of the
  // sequence, so a step is cut there and never the other way round.
  virtual int64_t rows_before_cut(const PolicyState& /*state*/, int64_t /*cached*/) const {
    return std::numeric_limits<int64_t>::max();
  }
  // After a step's tokens are accepted; the columns hold for all slots.
  virtual std::optional<Columns> after_accepted(PolicyState& /*state*/, int64_t /*cached*/) const {
    return std::nullopt;
  }
};
using KvPolicyPtr = std::shared_ptr<const KvPolicy>;

KvPolicyPtr make_full_policy();

// Attention sinks and a recent window: Xiao et al., "Efficient streaming language models with
// attention sinks", arXiv:2309.17453, section 3.2.
struct WindowOptions {
  int64_t sinks = 4;      // first tokens that always stay
  int64_t window = 1020;  // last tokens that stay; 1024 in all, whole pages

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("sinks", self.sinks, "first tokens that always stay, 0 to 1048576");
    visit("window", self.window, "last tokens that stay at least, 1 to 1048576");
  }
};
KvPolicyPtr make_window_policy(const WindowOptions& options);

}  // namespace adze::kv
