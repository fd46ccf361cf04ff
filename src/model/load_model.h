#pragma once
// Weights out of a checkpoint, packed for inference.

#include "model/checkpoint.h"
#include "model/model.h"

namespace adze::model {

// Packs all weights (both cores; the checkpoint may be closed afterwards). Throws core::Error that
// names the tensor and what was expected.
ModelPtr load_model(const Checkpoint& checkpoint, kernels::Arithmetic arithmetic);

// Bytes that load_model's weights will take, without loading any.
int64_t packed_model_bytes(const Checkpoint& checkpoint);

}  // namespace adze::model
