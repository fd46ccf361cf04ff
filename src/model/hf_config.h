#pragma once
// config.json of Hugging Face folders <-> ModelSpec.

#include <string_view>

#include <nlohmann/json.hpp>

#include "core/tensor_type.h"
#include "model/model_spec.h"

namespace adze::model {

// config: the parsed file, whose name errors show. Both spellings of rotary settings are read
// (rope_theta and rope_scaling; rope_parameters). Throws core::Error: unknown model_type (with the
// known ones), a missing field, a value out of range or that this forward pass cannot honour.
ModelSpec spec_from_config(const nlohmann::json& config, std::string_view file);

// The inverse, in the spelling that older and newer releases of transformers both read. `type`:
// f32, f16 or bf16, of the weights beside it. Throws core::Error for what config.json cannot say.
nlohmann::ordered_json config_from_spec(const ModelSpec& spec, core::TensorType type);

}  // namespace adze::model
