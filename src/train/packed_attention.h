#pragma once
// The context of training: all rows of a micro-batch attend within their own sequences, with
// gradients. Keys and values that layers share are rotated once and used by all readers.

#include <cstdint>
#include <functional>
#include <vector>

#include "kv/rotation.h"
#include "model/attention_context.h"
#include "model/model_spec.h"

namespace adze::train {

class PackedAttention : public model::AttentionContext {
 public:
  // rotation: of positions up to the longest sequence; must outlive the backward pass, which calls
  // on_backward(layer), if there is such a function, when all above the layer's attention is done.
  PackedAttention(const model::ModelSpec& spec,
                  const kv::Rotation& rotation,
                  std::vector<int64_t> sequence_starts,
                  std::function<void(int64_t layer)> on_backward = {});

  at::Tensor attend(int64_t layer,
                    const at::Tensor& query,
                    const at::Tensor& key,
                    const at::Tensor& value) override;

 private:
  struct KeyValue {
    at::Tensor key;  // rotated
    at::Tensor value;
  };

  const model::ModelSpec& spec_;
  const kv::Rotation& rotation_;
  std::vector<int64_t> sequence_starts_;
  std::function<void(int64_t)> on_backward_;
  std::vector<int64_t> positions_;    // [rows], from 0 in every sequence
  std::vector<KeyValue> key_values_;  // [num_layers]; of layers that own theirs
  std::vector<int64_t> last_reader_;  // [num_layers]; of a layer's keys and values
};

}  // namespace adze::train
