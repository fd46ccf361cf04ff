#pragma once
// One text in the cache: its pages by slot, its place in the text, what its policy remembers.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/state_stream.h"
#include "kv/kv_policy.h"
#include "kv/kv_store.h"
#include "kv/page_pool.h"
#include "kv/recent_queries.h"
#include "model/model_spec.h"

namespace adze::kv {

// What a sequence has to know of its model.
struct CacheLayout {
  explicit CacheLayout(const model::ModelSpec& spec);

  // The newest slot, where no layer above reads it or an older one: layers that share a slot run
  // the same rows, so rows can leave only here.
  std::optional<int64_t> complete_slot(int64_t layer) const;

  int64_t num_slots = 0;
  int64_t hidden_size = 0;
  std::vector<int64_t> slot_of_layer;
  std::vector<std::vector<int64_t>> readers;  // by slot: the layers that read it, rising
  std::vector<int64_t> windows;               // by layer; 0: none
};
using CacheLayoutPtr = std::shared_ptr<const CacheLayout>;
CacheLayoutPtr make_cache_layout(const model::ModelSpec& spec);

class Sequence {
 public:
  // The pool must outlive the sequence.
  Sequence(PagePool& pool, KvStorePtr store, KvPolicyPtr policy, CacheLayoutPtr layout);

  Sequence fork() const;  // shares all pages; either side copies a page before writing to it
  // Back to the first `tokens` tokens. Throws core::Error where the policy has dropped some
  // already.
  void truncate(int64_t tokens);
  void clear();

  // Bytes that load() turns into an equal sequence: equal logits for whatever follows.
  void save(core::StateWriter& writer) const;
  // Replaces the contents. Throws core::Error: other store, policy or shape, damaged data.
  void load(core::StateReader& reader);

  // Appends whole sealed pages, one a slot, of the tokens that follow; of a sequence with the same
  // store, key form and tokens so far. Only while nothing has been dropped and every page is whole.
  // sides: by slot, with the last of the first pages of a store that has them.
  void append_pages(std::span<const PageRef> pages, std::span<const PageRef> sides);

  // A prompt of `incoming` tokens follows, and an answer of up to `reserved`. Without a turn the
  // text grows as an answer does.
  void begin_turn(int64_t incoming, int64_t reserved);
  // Ends a step in which `rows` tokens were appended: policy and raw pages. surprisals [rows] where
  // the policy needs them.
  void end_step(int64_t rows, std::span<const float> surprisals = {});
  // In a step, after a layer's attention: adds what its rows, the slot's last ones, give to tokens.
  // rotation: as for KvStore::attend.
  void add_received(int64_t layer,
                    const float* query,
                    const float* log_sum_exp,
                    int64_t rows,
                    const kernels::KeyRotation& rotation);
  // In a step, when all layers that read the slot have run: rows of the prompt that go on.
  std::optional<std::vector<int64_t>> narrow(int64_t slot);
  // Rows that the next step may append at most, and has to append at least.
  int64_t rows_before_cut() const;
  int64_t rows_at_once() const;

  int64_t num_tokens() const { return num_tokens_; }  // seen, dropped ones included
  int64_t cached_tokens(int64_t slot) const { return slots_[static_cast<size_t>(slot)].length; }
  int64_t most_cached_tokens() const;
  Place place() const;
  // Positions in the text of a slot's cached tokens, [cached, 1 or kv_heads].
  std::vector<int32_t> positions(int64_t slot) const;
  int64_t page_bytes() const;  // of pages of the pool that it refers to, shared ones included
  int64_t bytes() const;       // these and what it remembers of its tokens beside them
  // Bytes of new pages that appending so many rows takes, at most; a cut needs as much again.
  int64_t bytes_to_append(int64_t rows) const;
  int64_t num_slots() const { return layout_->num_slots; }

  SlotPages& slot(int64_t index) { return slots_[static_cast<size_t>(index)]; }
  const SlotPages& slot(int64_t index) const { return slots_[static_cast<size_t>(index)]; }
  RecentQueries& queries(int64_t layer) { return queries_[static_cast<size_t>(layer)]; }
  const RecentQueries& queries(int64_t layer) const { return queries_[static_cast<size_t>(layer)]; }
  PagePool& pool() const { return *pool_; }
  const KvStore& store() const { return *store_; }
  const KvPolicy& policy() const { return *policy_; }
  PolicyState& policy_state() { return *state_; }
  const CacheLayout& layout() const { return *layout_; }
  // Hidden row of the last token [hidden_size], where the policy needs surprisals: what follows is
  // judged by it. Empty before the first.
  std::vector<float>& last_hidden() { return last_hidden_; }
  // Logits of that row, where somebody has asked for them already; else empty. Not saved.
  std::vector<float>& last_logits() { return last_logits_; }

 private:
  PagePool* pool_;
  KvStorePtr store_;
  KvPolicyPtr policy_;
  CacheLayoutPtr layout_;
  std::unique_ptr<PolicyState> state_;
  std::vector<SlotPages> slots_;
  std::vector<RecentQueries> queries_;  // by layer; empty where the policy needs none
  std::vector<float> last_hidden_;
  std::vector<float> last_logits_;
  int64_t num_tokens_ = 0;
  int64_t turn_end_ = 0;
};

}  // namespace adze::kv
