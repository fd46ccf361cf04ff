#pragma once
// Which cached tokens stay. A policy owns no storage; what it has to remember of a sequence is its
// PolicyState, which is forked, truncated, saved and counted with the sequence.
//
// A text grows in turns: a prompt of known length, then what is generated. Policies cut at the end
// of a prompt or at fixed places of the text, never where a step happens to end.

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

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
  // Whether what was loaded goes with a text of so many tokens, `lengths` of them cached by slot.
  virtual bool fits(std::span<const int64_t> /*lengths*/, int64_t /*tokens*/) const { return true; }
  virtual int64_t bytes() const { return 0; }
};

struct Needs {
  // A token's position is its rank in the cache, so that a text may outgrow the trained context;
  // the store then keeps keys unrotated.
  bool rank_positions = false;
  bool received = false;   // the attention that each token has received from all rows (SlotPages)
  bool queries = false;    // the last queries of each layer (query_window)
  bool surprisal = false;  // of each token, in nats
  bool whole_prompt = false;  // a prompt in one step; rows leave it from layer to layer (narrow)

  // Whether a text has to be computed from its first token on: no pages of another's prefix.
  bool every_row() const { return received || surprisal || whole_prompt; }
};

// Where a text stands.
struct Place {
  int64_t tokens = 0;    // seen
  int64_t cached = 0;    // of the slot that holds most
  int64_t turn_end = 0;  // tokens seen when the prompt of the turn is in
  bool in_prompt() const { return tokens < turn_end; }
};

// One slot when its policy looks at it. What costs something is made when it is asked for.
class SlotView {
 public:
  virtual ~SlotView() = default;
  virtual int64_t slot() const = 0;
  virtual int64_t num_slots() const = 0;
  virtual int64_t kv_heads() const = 0;
  virtual int64_t length() const = 0;  // cached tokens
  // Attention of the last `window` rows (those that were kept) to each token [kv_heads, length]:
  // mean over a group's heads, row r times weights[r] (oldest first; empty: 1 each), summed; of
  // layers that share the slot, the largest. Needs::queries.
  virtual std::vector<float> recent_attention(int64_t window, std::span<const float> weights) = 0;
  // Attention that each token has received so far [kv_heads, length], likewise. Needs::received.
  virtual std::vector<float> received() = 0;
  virtual std::vector<float> keys() = 0;  // as stored [kv_heads, length, head_dim]
};

class KvPolicy {
 public:
  virtual ~KvPolicy() = default;

  virtual std::string name() const = 0;  // with its options, as registered
  virtual Needs needs() const { return {}; }
  virtual std::unique_ptr<PolicyState> new_state() const { return std::make_unique<PolicyState>(); }

  // Most tokens in a slot at any time, for a text of `text_tokens`: sizes the pool.
  virtual int64_t most_cached(int64_t text_tokens) const { return text_tokens; }
  // Tokens of a slot that stay whatever the budget.
  virtual int64_t least_cached() const { return 1; }
  // The least share of a prompt's tokens that it can keep, all slots together.
  virtual double least_share(int64_t /*prompt*/, int64_t /*num_slots*/) const { return 0; }
  // True where only prompts are cut.
  virtual bool prompt_only() const { return false; }
  // True where tokens are dropped.
  virtual bool evicts() const { return false; }
  // True where the text may be longer than the context: positions are ranks, and few.
  bool endless() const { return evicts() && needs().rank_positions; }
  // Whether the same tokens give the same cache again, however they are cut into steps.
  virtual bool recomputable() const { return false; }
  // Needs::whole_prompt: the longest prompt.
  virtual int64_t most_whole_prompt() const { return std::numeric_limits<int64_t>::max(); }
  // Rows whose queries are kept, at this place. Needs::queries.
  virtual int64_t query_window(const Place& /*place*/) const { return 0; }

  // Before a turn's prompt of `incoming` tokens and an answer of up to `reserved`; the columns hold
  // for all slots.
  virtual std::optional<Columns> begin_turn(PolicyState& /*state*/,
                                            const Place& /*place*/,
                                            int64_t /*incoming*/,
                                            int64_t /*reserved*/) const {
    return std::nullopt;
  }
  // Rows that may be appended before the policy has to look again: cuts fall at fixed places of the
  // text, so a step is cut there and never the other way round.
  virtual int64_t rows_before_cut(const PolicyState& /*state*/, const Place& /*place*/) const {
    return std::numeric_limits<int64_t>::max();
  }
  // Tokens that a step has added; empty unless Needs::surprisal.
  virtual void add_surprisals(PolicyState& /*state*/, std::span<const float> /*nats*/) const {}
  // After a step: whether to look at the slots.
  virtual bool cuts(const PolicyState& /*state*/, const Place& /*place*/) const { return false; }
  // Then for each slot, in order.
  virtual std::optional<Columns> columns(PolicyState& /*state*/,
                                         const Place& /*place*/,
                                         SlotView& /*view*/) const {
    return std::nullopt;
  }

  // Needs::whole_prompt. Of `length` rows of a prompt that the layers of `view.slot()` have run,
  // those that go on to the next ones: rising indices. The slot itself keeps them all. The view's
  // attention is that of the prompt's own rows.
  virtual std::optional<std::vector<int64_t>> narrow(PolicyState& /*state*/,
                                                     const Place& /*place*/,
                                                     SlotView& /*view*/) const {
    return std::nullopt;
  }
};
using KvPolicyPtr = std::shared_ptr<const KvPolicy>;

KvPolicyPtr make_full_policy();

}  // namespace adze::kv
