#include "kv/cached_attention.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "tensor/operations.h"

namespace adze::kv {
namespace {

std::vector<int64_t> slots_of_layers(const model::ModelSpec& spec) {
  const auto owners = spec.owning_layers();
  std::vector<int64_t> slots;
  for (const int64_t source : spec.kv_source) {
    slots.push_back(std::lower_bound(owners.begin(), owners.end(), source) - owners.begin());
  }
  return slots;
}

// Where the next row of a sequence is rotated to, at most. Ranks stay small however long the text.
int64_t last_position(const Sequence& sequence) {
  if (!sequence.policy().needs().rank_positions) {
    return sequence.num_tokens();
  }
  int64_t longest = 0;
  for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
    longest = std::max(longest, sequence.cached_tokens(slot));
  }
  return longest;
}

// 1 where all heads of a slot keep the same tokens.
int64_t first_visible_heads(const SlotPages& slot) {
  return slot.length == 0 || slot.positions.empty()
             ? 1
             : static_cast<int64_t>(slot.positions.size()) / slot.length;
}

}  // namespace

CachedAttention::CachedAttention(const model::ModelSpec& spec,
                                 Rotation& rotation,
                                 std::vector<StepRows> step)
    : spec_(spec),
      rotation_(rotation),
      step_(std::move(step)),
      slot_of_layer_(slots_of_layers(spec)) {
  for (const StepRows& part : step_) {
    rotation_.reserve_positions(last_position(*part.sequence) + part.rows);
  }
}

// Rotates rows [row, row + count) of heads to positions first, first + 1, ...
void CachedAttention::rotate_rows(const kernels::RopeTable& table,
                                  int64_t first,
                                  int64_t count,
                                  int64_t row,
                                  int64_t heads,
                                  float* rows) {
  positions_.resize(static_cast<size_t>(count));
  std::iota(positions_.begin(), positions_.end(), first);
  rows += row * heads * spec_.head_dim;
  kernels::rope(table, rows, positions_.data(), count, heads, rows);
}

// First ranks that the rows of a sequence see through the layer's window; null: all.
const int32_t* CachedAttention::first_visible(const SlotPages& slot, int64_t rows, int64_t window) {
  if (window == 0 || slot.length <= window) {
    return nullptr;
  }
  std::vector<int32_t>& first = first_visible_.emplace_back();
  const int64_t heads = first_visible_heads(slot);
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t row = slot.length - rows; row < slot.length; ++row) {
      if (slot.positions.empty()) {
        first.push_back(static_cast<int32_t>(std::max<int64_t>(0, row - window + 1)));
        continue;
      }
      // Tokens were dropped: the window counts positions in the text, not ranks.
      const auto position = [&](int64_t rank) {
        return slot.positions[static_cast<size_t>(rank * heads + head)];
      };
      const int64_t oldest = position(row) - window + 1;
      int64_t rank = 0;
      for (int64_t last = row; rank < last;) {
        const int64_t middle = (rank + last) / 2;
        if (position(middle) < oldest) {
          rank = middle + 1;
        } else {
          last = middle;
        }
      }
      first.push_back(static_cast<int32_t>(rank));
    }
  }
  return first.data();
}

at::Tensor CachedAttention::attend(int64_t layer,
                                   const at::Tensor& query,
                                   const at::Tensor& key,
                                   const at::Tensor& value) {
  const int64_t slot = slot_of_layer_[static_cast<size_t>(layer)];
  const bool owner = spec_.kv_source[static_cast<size_t>(layer)] == layer;
  core::check(owner == key.defined(), "keys come with their owning layer");
  // NOTE: rotates in place. The projections were made for this call and nobody else reads them.
  auto* query_rows = query.mutable_data_ptr<float>();
  const kernels::RopeTable* table = rotation_.table(layer);
  int64_t row = 0;
  for (const StepRows& part : step_) {
    Sequence& sequence = *part.sequence;
    const bool ranks = sequence.policy().needs().rank_positions;
    const int64_t cached = sequence.cached_tokens(slot) - (owner ? 0 : part.rows);
    const int64_t first = ranks ? cached : sequence.num_tokens();
    if (table != nullptr) {
      rotate_rows(*table, first, part.rows, row, spec_.heads, query_rows);
    }
    if (owner) {
      auto* key_rows = key.mutable_data_ptr<float>();
      if (!ranks && table != nullptr) {
        rotate_rows(*table, first, part.rows, row, spec_.kv_heads, key_rows);
      }
      const int64_t offset = row * spec_.kv_width();
      sequence.store().append(sequence.pool(),
                              sequence.slot(slot),
                              key_rows + offset,
                              value.const_data_ptr<float>() + offset,
                              part.rows,
                              sequence.num_tokens());
    }
    row += part.rows;
  }
  at::Tensor output = tensor::empty_floats(query.size(0), query.size(1));
  attend_groups(layer, query_rows, output.mutable_data_ptr<float>());
  return output;
}

void CachedAttention::attend_groups(int64_t layer, const float* query, float* output) {
  const int64_t slot = slot_of_layer_[static_cast<size_t>(layer)];
  const int64_t window = spec_.window(layer);
  first_visible_.clear();
  // Sequences of one store and key form go in one call; a step rarely has more than two groups.
  std::vector<bool> done(step_.size(), false);
  const int64_t width = spec_.heads * spec_.head_dim;
  for (size_t leader = 0; leader < step_.size(); ++leader) {
    if (done[leader]) {
      continue;
    }
    const KvStore& store = step_[leader].sequence->store();
    const bool ranks = step_[leader].sequence->policy().needs().rank_positions;
    std::vector<SequenceRows> group;
    int64_t longest = 0;
    int64_t row = 0;
    for (size_t i = 0; i < step_.size(); ++i) {
      const Sequence& sequence = *step_[i].sequence;
      if (&sequence.store() == &store && sequence.policy().needs().rank_positions == ranks) {
        const SlotPages& pages = sequence.slot(slot);
        const int32_t* first = first_visible(pages, step_[i].rows, window);
        group.push_back({.pages = &pages,
                         .query = query + row * width,
                         .output = output + row * width,
                         .rows = step_[i].rows,
                         .first_visible = first,
                         .first_visible_heads = first_visible_heads(pages),
                         .bidirectional = !spec_.causal});
        longest = std::max(longest, sequence.cached_tokens(slot));
        done[i] = true;
      }
      row += step_[i].rows;
    }
    store.attend(group, ranks ? rotation_.key_rotation(layer, longest) : kernels::KeyRotation());
  }
}

}  // namespace adze::kv
