#pragma once
// Attention of a step's rows over the page pool: rotates, appends, and lets each store attend to
// all of its sequences in one call.

#include <cstdint>
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

 private:
  void rotate_rows(const kernels::RopeTable& table,
                   int64_t first,
                   int64_t count,
                   int64_t row,
                   int64_t heads,
                   float* rows);
  const int32_t* first_visible(const SlotPages& slot, int64_t rows, int64_t window);
  void attend_groups(int64_t layer, const float* query, float* output);

  const model::ModelSpec& spec_;
  Rotation& rotation_;
  std::vector<StepRows> step_;
  std::vector<int64_t> slot_of_layer_;
  std::vector<int64_t> positions_;                   // reused by rotate_rows
  std::vector<std::vector<int32_t>> first_visible_;  // of the attend in progress
};

}  // namespace adze::kv
