#pragma once
// One text in the cache: its pages by slot, its place in the text, what its policy remembers.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/state_stream.h"
#include "kv/kv_policy.h"
#include "kv/kv_store.h"
#include "kv/page_pool.h"
#include "model/model_spec.h"

namespace adze::kv {

class Sequence {
 public:
  // The pool must outlive the sequence.
  Sequence(PagePool& pool, KvStorePtr store, KvPolicyPtr policy, int64_t num_slots);

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
  void append_pages(std::span<const PageRef> pages);

  // Ends a step in which `rows` tokens were appended to every slot: policy and raw pages.
  void end_step(int64_t rows);
  // Rows that the next step may append at most.
  int64_t rows_before_cut() const;

  int64_t num_tokens() const { return num_tokens_; }  // seen, dropped ones included
  int64_t cached_tokens(int64_t slot) const { return slots_[static_cast<size_t>(slot)].length; }
  // Positions in the text of a slot's cached tokens, [cached, 1 or kv_heads].
  std::vector<int32_t> positions(int64_t slot) const;
  int64_t bytes() const;  // pages it refers to, state included
  // Bytes of new pages that appending so many rows takes, at most; a cut needs as much again.
  int64_t bytes_to_append(int64_t rows) const;
  int64_t num_slots() const { return static_cast<int64_t>(slots_.size()); }

  SlotPages& slot(int64_t index) { return slots_[static_cast<size_t>(index)]; }
  const SlotPages& slot(int64_t index) const { return slots_[static_cast<size_t>(index)]; }
  PagePool& pool() const { return *pool_; }
  const KvStore& store() const { return *store_; }
  const KvPolicy& policy() const { return *policy_; }

 private:
  PagePool* pool_;
  KvStorePtr store_;
  KvPolicyPtr policy_;
  std::unique_ptr<PolicyState> state_;
  std::vector<SlotPages> slots_;
  int64_t num_tokens_ = 0;
};

}  // namespace adze::kv
