#include "kv/cached_attention.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "tensor/operations.h"

namespace adze::kv {
namespace {

// Where the next row of a sequence is rotated to, at most. Ranks stay small however long the text.
int64_t last_position(const Sequence& sequence) {
  return sequence.policy().needs().rank_positions ? sequence.most_cached_tokens()
                                                  : sequence.num_tokens();
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
    : spec_(spec), rotation_(rotation) {
  for (const StepRows& rows : step) {
    rotation_.reserve_positions(last_position(*rows.sequence) + rows.rows);
    Part part{.sequence = rows.sequence,
              .positions = std::vector<int32_t>(static_cast<size_t>(rows.rows)),
              .needs = rows.sequence->policy().needs(),
              .narrows = false};
    std::iota(part.positions.begin(),
              part.positions.end(),
              static_cast<int32_t>(rows.sequence->num_tokens()));
    part.narrows = part.needs.whole_prompt && rows.sequence->num_tokens() == 0 &&
                   rows.rows == rows.sequence->rows_at_once() && rows.rows > 1;
    wants_sums_ = wants_sums_ || part.needs.received || part.needs.queries;
    parts_.push_back(std::move(part));
  }
}

std::vector<int64_t> CachedAttention::rows_left() const {
  std::vector<int64_t> rows;
  for (const Part& part : parts_) {
    rows.push_back(part.rows());
  }
  return rows;
}

// Rotates a part's rows of heads to their positions: those in the text [11 §2.3 step 1], or ranks
// from first_rank on [12 §2.3 step 3].
void CachedAttention::rotate_rows(const kernels::RopeTable& table,
                                  const Part& part,
                                  int64_t first_rank,
                                  int64_t heads,
                                  float* rows) {
  if (part.needs.rank_positions) {
    rotated_to_.resize(part.positions.size());
    std::iota(rotated_to_.begin(), rotated_to_.end(), first_rank);
  } else {
    rotated_to_.assign(part.positions.begin(), part.positions.end());
  }
  kernels::rope(table, rows, rotated_to_.data(), part.rows(), heads, rows);
}

// First ranks that the rows of a sequence see through the layer's window; null: all.
const int32_t* CachedAttention::first_visible(const SlotPages& slot, int64_t rows, int64_t window) {
  if (window == 0 || (slot.positions.empty() && slot.length <= window)) {
    return nullptr;
  }
  std::vector<int32_t>& first = first_visible_.emplace_back();
  for (int64_t head = 0; head < first_visible_heads(slot); ++head) {
    for (int64_t row = slot.length - rows; row < slot.length; ++row) {
      first.push_back(static_cast<int32_t>(first_visible_rank(slot, head, row, window)));
    }
  }
  return first.data();
}

at::Tensor CachedAttention::attend(int64_t layer,
                                   const at::Tensor& query,
                                   const at::Tensor& key,
                                   const at::Tensor& value) {
  const bool owner = spec_.kv_source[static_cast<size_t>(layer)] == layer;
  core::check(owner == key.defined(), "keys come with their owning layer");
  // NOTE: rotates in place. The projections were made for this call and nobody else reads them.
  auto* query_rows = query.mutable_data_ptr<float>();
  const kernels::RopeTable* table = rotation_.table(layer);
  int64_t row = 0;
  for (const Part& part : parts_) {
    Sequence& sequence = *part.sequence;
    const int64_t slot = sequence.layout().slot_of_layer[static_cast<size_t>(layer)];
    const int64_t first_rank = sequence.cached_tokens(slot) - (owner ? 0 : part.rows());
    if (table != nullptr) {
      rotate_rows(
          *table, part, first_rank, spec_.heads, query_rows + row * spec_.heads * spec_.head_dim);
    }
    if (owner) {
      float* key_rows = key.mutable_data_ptr<float>() + row * spec_.kv_width();
      if (!part.needs.rank_positions && table != nullptr) {
        rotate_rows(*table, part, first_rank, spec_.kv_heads, key_rows);
      }
      sequence.store().append(sequence.pool(),
                              sequence.slot(slot),
                              key_rows,
                              value.const_data_ptr<float>() + row * spec_.kv_width(),
                              part.positions);
    }
    row += part.rows();
  }
  at::Tensor output = tensor::empty_floats(query.size(0), query.size(1));
  if (wants_sums_) {
    log_sum_exp_.resize(static_cast<size_t>(row * spec_.heads));
  }
  attend_groups(layer, query_rows, output.mutable_data_ptr<float>());
  if (wants_sums_) {
    keep_evidence(layer, query_rows);
  }
  return output;
}

void CachedAttention::attend_groups(int64_t layer, const float* query, float* output) {
  const int64_t window = spec_.window(layer);
  first_visible_.clear();
  // Sequences of one store and key form go in one call; a step rarely has more than two groups.
  std::vector<bool> done(parts_.size(), false);
  const int64_t width = spec_.heads * spec_.head_dim;
  for (size_t leader = 0; leader < parts_.size(); ++leader) {
    if (done[leader]) {
      continue;
    }
    const KvStore& store = parts_[leader].sequence->store();
    const bool ranks = parts_[leader].needs.rank_positions;
    std::vector<SequenceRows> group;
    int64_t longest = 0;
    int64_t row = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Sequence& sequence = *parts_[i].sequence;
      const int64_t rows = parts_[i].rows();
      if (&sequence.store() == &store && parts_[i].needs.rank_positions == ranks) {
        const int64_t slot = sequence.layout().slot_of_layer[static_cast<size_t>(layer)];
        const SlotPages& pages = sequence.slot(slot);
        const int32_t* first = first_visible(pages, rows, window);
        group.push_back(
            {.pages = &pages,
             .query = query + row * width,
             .output = output + row * width,
             .rows = rows,
             .first_visible = first,
             .first_visible_heads = first_visible_heads(pages),
             .bidirectional = !spec_.causal,
             .log_sum_exp = wants_sums_ ? log_sum_exp_.data() + row * spec_.heads : nullptr});
        longest = std::max(longest, sequence.cached_tokens(slot));
        done[i] = true;
      }
      row += rows;
    }
    store.attend(group, ranks ? rotation_.key_rotation(layer, longest) : kernels::KeyRotation());
  }
}

// What policies of this step want to know of the layer's attention.
void CachedAttention::keep_evidence(int64_t layer, const float* query) {
  const float* sums = log_sum_exp_.data();
  for (Part& part : parts_) {
    Sequence& sequence = *part.sequence;
    if (part.needs.queries) {
      sequence.queries(layer).push(sequence.pool(),
                                   sequence.policy().query_window(sequence.place()),
                                   spec_.heads,
                                   spec_.head_dim,
                                   query,
                                   sums,
                                   part.rows());
    }
    if (part.needs.received) {
      const int64_t slot = sequence.layout().slot_of_layer[static_cast<size_t>(layer)];
      sequence.add_received(layer,
                            query,
                            sums,
                            part.rows(),
                            part.needs.rank_positions
                                ? rotation_.key_rotation(layer, sequence.cached_tokens(slot))
                                : kernels::KeyRotation());
    }
    query += part.rows() * spec_.heads * spec_.head_dim;
    sums += part.rows() * spec_.heads;
  }
}

std::optional<model::SurvivingRows> CachedAttention::surviving_rows(int64_t layer) {
  model::SurvivingRows surviving{.rows = {}, .sequence_starts = {0}};
  bool drops = false;
  int64_t first = 0;
  for (Part& part : parts_) {
    const int64_t rows = part.rows();
    std::optional<std::vector<int64_t>> kept;
    if (part.narrows) {
      if (const auto slot = part.sequence->layout().complete_slot(layer)) {
        kept = part.sequence->narrow(*slot);
      }
    }
    if (kept) {
      drops = true;
      std::vector<int32_t> positions;
      for (const int64_t row : *kept) {
        surviving.rows.push_back(first + row);
        positions.push_back(part.positions[static_cast<size_t>(row)]);
      }
      part.positions = std::move(positions);
    } else {
      for (int64_t row = 0; row < rows; ++row) {
        surviving.rows.push_back(first + row);
      }
    }
    surviving.sequence_starts.push_back(static_cast<int64_t>(surviving.rows.size()));
    first += rows;
  }
  return drops ? std::optional(std::move(surviving)) : std::nullopt;
}

}  // namespace adze::kv
