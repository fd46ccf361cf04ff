#pragma once
// How ropes are stretched, as config.json's "rope_scaling" says it.

#include <nlohmann/json.hpp>

#include "model/config_fields.h"
#include "model/rope.h"

namespace adze::model {

// object: rope_scaling, or an entry of rope_parameters. trained: positions that stand in where the
// object does not say what the model was trained with; stretched: positions that it is meant for.
RopeScaling read_rope_scaling(const ConfigFields& object, int64_t trained, int64_t stretched);

// Not for kDivisors, which has no such form: core::Error.
nlohmann::ordered_json rope_scaling_object(const RopeScaling& scaling);

}  // namespace adze::model
