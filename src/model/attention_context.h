#pragma once
// What the forward pass asks of attention. The context owns positions and rotation, so that a cache
// may keep keys unrotated; the model knows neither cache nor mask.

#include <cstdint>
#include <optional>
#include <vector>

#include "tensor/aten.h"

namespace adze::model {

// Rows that go on to the next operations, when a context drops some in mid-pass.
struct SurvivingRows {
  std::vector<int64_t> rows;             // rising indices into the rows before
  std::vector<int64_t> sequence_starts;  // [sequences + 1] after
};

class AttentionContext {
 public:
  virtual ~AttentionContext() = default;

  // UNROTATED query [rows, heads * head_dim]; key, value [rows, kv_heads * head_dim], undefined
  // tensors where spec.kv_source[layer] != layer. Returns [rows, heads * head_dim].
  virtual at::Tensor attend(int64_t layer,
                            const at::Tensor& query,
                            const at::Tensor& key,
                            const at::Tensor& value) = 0;

  // Asked once after a layer's attention; logits exist for surviving rows only.
  virtual std::optional<SurvivingRows> surviving_rows(int64_t /*layer*/) { return std::nullopt; }
};

}  // namespace adze::model
