#pragma once
// Attention of a step's rows over the page pool: rotates, appends, and lets each store attend to
// all of its sequences in one call. Keeps what policies want to know of it, and drops the rows of a
// prompt that a policy lets leave between layers.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kv/rotation.h"
#include "kv/sequence.h"
#include "model/attention_context.h"
#include "model/model_spec.h"

namespace adze::kv {

struct StepRows {
  Sequence* sequence;
  int64_t rows;  // in the order in which TokenRows concatenates them
};

class CachedAttention : public model::AttentionContext {
 public:
  // All referenced objects must outlive the context, which serves one forward pass.
  CachedAttention(const model::ModelSpec& spec, Rotation& rotation, std::vector<StepRows> step);

  at::Tensor attend(int64_t layer,
                    const at::Tensor& query,
                    const at::Tensor& key,
                    const at::Tensor& value) override;
  std::optional<model::SurvivingRows> surviving_rows(int64_t layer) override;

  // Rows of each part that are left, the part's last one among them.
  std::vector<int64_t> rows_left() const;

 private:
  struct Part {
    Sequence* sequence;
    std::vector<int32_t> positions;  // in the text, of the rows that are left
    Needs needs;
    bool narrows;  // a whole prompt
    int64_t rows() const { return static_cast<int64_t>(positions.size()); }
  };

  void rotate_rows(const kernels::RopeTable& table,
                   const Part& part,
                   int64_t first_rank,
                   int64_t heads,
                   float* rows);
  const int32_t* first_visible(const SlotPages& slot, int64_t rows, int64_t window);
  void attend_groups(int64_t layer, const float* query, float* output);
  void keep_evidence(int64_t layer, const float* query);

  const model::ModelSpec& spec_;
  Rotation& rotation_;
  std::vector<Part> parts_;
  bool wants_sums_ = false;                          // some policy asks for attention
  std::vector<float> log_sum_exp_;                   // [rows, heads] of the layer, where wanted
  std::vector<int64_t> rotated_to_;                  // reused by rotate_rows
  std::vector<std::vector<int32_t>> first_visible_;  // of the attend in progress
};

}  // namespace adze::kv
