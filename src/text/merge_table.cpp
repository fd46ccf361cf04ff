#include "text/merge_table.h"

#include <bit>

#include "core/error.h"
#include "text/text_index.h"

namespace adze::text {

MergeTable::MergeTable(size_t capacity)
    : slots_(std::bit_ceil(capacity * 2 + 2)),
      mask_(slots_.size() - 1),
      shift_(64 - std::countr_zero(slots_.size())) {}

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  size_t index = slot_of(left, right);
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    Slot& slot = slots_[index];
    if (slot.left == left && slot.right == right) {
      return;
    }
    if (slot.merge.rank == Merge::kNone) {
      slot = {left, right, merge};
      return;
    }
    index = (index + 1) & mask_;
  }
  throw core::error("tokenizer", "merges: too many pairs collide; the vocabulary is hostile");
}

}  // namespace adze::text
