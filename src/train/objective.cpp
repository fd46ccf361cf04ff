#include "train/objective.h"

#include "model/forward.h"
#include "tensor/cross_entropy.h"
#include "tensor/leaf.h"
#include "train/packed_attention.h"

namespace adze::train {
namespace {

tensor::CrossEntropy next_token_loss(const model::Model& model,
                                     PackedAttention& attention,
                                     const data::TokenBatch& batch,
                                     const LossOptions& options) {
  const model::TokenRows rows{{batch.tokens.begin(), batch.tokens.end()}, batch.sequence_starts};
  return tensor::cross_entropy(
      model::forward(model, rows, attention, options.activations),
      *model.output,
      batch.targets,
      {.scale = options.scale, .z_loss = options.z_loss, .softcap = model.spec.output_softcap});
}

}  // namespace

double add_gradients(const model::Model& model,
                     const kv::Rotation& rotation,
                     const data::TokenBatch& batch,
                     const LossOptions& options) {
  PackedAttention attention(model.spec, rotation, batch.sequence_starts, options.above_is_done);
  const tensor::CrossEntropy result = next_token_loss(model, attention, batch, options);
  tensor::backward(result.loss);
  return result.sum();
}

double loss_sum(const model::Model& model,
                const kv::Rotation& rotation,
                const data::TokenBatch& batch) {
  const tensor::WithoutGradients guard;
  PackedAttention attention(model.spec, rotation, batch.sequence_starts);
  return next_token_loss(model, attention, batch, {}).sum();
}

}  // namespace adze::train
