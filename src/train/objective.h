#pragma once
// What a micro-batch's loss is. Next-token prediction for now.

#include <cstdint>
#include <functional>
#include <vector>

#include "data/batch_source.h"
#include "kv/rotation.h"
#include "model/forward.h"
#include "model/model.h"

namespace adze::train {

struct LossOptions {
  double scale = 1;  // of the gradient: 1 / targets of the whole step
  double z_loss = 0;
  model::Activations activations = model::Activations::kKept;
  // Called within the backward pass when the gradients of all layers above one are complete.
  std::function<void(int64_t layer)> above_is_done = {};
};

// Σ of the losses of the batch's targets, in nats. With gradients: adds the gradient of scale * (Σ
// losses + z_loss Σ (log Σ exp)²) to those of the leaves.
double add_gradients(const model::Model& model,
                     const kv::Rotation& rotation,
                     const data::TokenBatch& batch,
                     const LossOptions& options);

// The same Σ without gradients.
double loss_sum(const model::Model& model,
                const kv::Rotation& rotation,
                const data::TokenBatch& batch);

}  // namespace adze::train
