#pragma once
// Immutable weights, shared by all sequences. A plain struct of tensors: no modules.

#include <cstdint>
#include <memory>
#include <vector>

#include "model/model_spec.h"
#include "tensor/aten.h"
#include "tensor/linear_weight.h"

namespace adze::model {

struct Layer {
  at::Tensor attention_norm;      // [hidden_size]
  tensor::LinearWeightPtr query;  // [heads * head_dim, hidden_size]
  tensor::LinearWeightPtr key;    // [kv_heads * head_dim, hidden_size]; null where shared
  tensor::LinearWeightPtr value;  // as key
  tensor::LinearWeightPtr attention_output;  // [hidden_size, heads * head_dim]
  at::Tensor feed_forward_norm;              // [hidden_size]
  tensor::LinearWeightPtr gate;              // [intermediate_size, hidden_size]
  tensor::LinearWeightPtr up;                // [intermediate_size, hidden_size]
  tensor::LinearWeightPtr down;              // [hidden_size, intermediate_size]
};

struct Model {
  ModelSpec spec;
  tensor::LinearWeightPtr embedding;  // [vocab_size, hidden_size]
  std::vector<Layer> layers;
  at::Tensor output_norm;          // [hidden_size]
  tensor::LinearWeightPtr output;  // [vocab_size, hidden_size]; the embedding itself where tied

  int64_t weight_bytes() const;  // resident, a shared weight once
};
using ModelPtr = std::shared_ptr<const Model>;

}  // namespace adze::model
