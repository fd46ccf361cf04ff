#pragma once
// Immutable weights, shared by all sequences. A plain struct of tensors: no modules.

#include <cstdint>
#include <memory>
#include <vector>

#include "model/model_spec.h"
#include "tensor/aten.h"
#include "tensor/linear_weight.h"

namespace adze::model {

struct Norm {
  at::Tensor weight;  // [columns]; undefined where the model has no such norm
  at::Tensor bias;    // [columns]; of layer norms
};

struct Layer {
  Norm attention_norm;            // before attention
  Norm key_value_norm;            // instead of it before key and value; spec.key_value_norm
  tensor::LinearWeightPtr query;  // [heads * head_dim, hidden_size]
  tensor::LinearWeightPtr key;    // [kv_heads * head_dim, hidden_size]; null where shared
  tensor::LinearWeightPtr value;  // as key
  Norm query_norm;                // [head_dim], spec.query_key_norm
  Norm key_norm;
  tensor::LinearWeightPtr attention_output;  // [hidden_size, heads * head_dim]
  Norm attention_branch_norm;                // spec.branch_norms
  Norm feed_forward_norm;                    // before the feed forward
  tensor::LinearWeightPtr gate;              // [intermediate_size, hidden_size]; spec.gated
  tensor::LinearWeightPtr up;                // [intermediate_size, hidden_size]
  tensor::LinearWeightPtr down;              // [hidden_size, intermediate_size]
  Norm feed_forward_branch_norm;             // spec.branch_norms
};

// The norm before block b + 1 is the norm after block b. A model whose residual is normed
// (spec.residual_is_normed) is the same sequence: its embedding's norm is the first layer's
// attention_norm, and its last layer's last norm is output_norm.
struct Model {
  ModelSpec spec;
  tensor::LinearWeightPtr embedding;  // [vocab_size, hidden_size]
  at::Tensor position_embedding;      // [learned_positions, hidden_size] or undefined
  std::vector<Layer> layers;
  Norm output_norm;
  tensor::LinearWeightPtr output;  // [vocab_size, hidden_size]; the embedding itself where tied;
                                   // null for encoders

  int64_t weight_bytes() const;  // resident, a shared weight once
  // What a layer's rows are multiplied with; null ones left out.
  static std::vector<const tensor::LinearWeight*> matrices(const Layer& layer);
};
using ModelPtr = std::shared_ptr<const Model>;

}  // namespace adze::model
