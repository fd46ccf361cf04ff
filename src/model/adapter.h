#pragma once
// LoRA adapters (Hu et al., arXiv:2106.09685) in PEFT's format: a folder with adapter_config.json
// and adapter_model.safetensors.

#include <filesystem>

#include "model/model.h"

namespace adze::model {

// The base with low-rank factors over the linear layers of its blocks; it shares the base's
// tensors, whatever file and type those came from. Its name is the base's and the folder's, and its
// weight_bytes() are the base's and the factors'.
//
// Throws core::Error that names file, field or tensor and what was expected: a configuration that
// asks for more than low-rank factors (adapter_config.h), modules that the model lacks (embedding
// and output layer count as such), a tensor that is missing, surplus or of another shape.
ModelPtr load_adapter(ModelPtr base, const std::filesystem::path& folder);

}  // namespace adze::model
