#pragma once
// GGUF metadata <-> ModelSpec. What llama.cpp's keys cannot say is kept under "adze." keys, so that
// a model comes back from the file as it went in.

#include <string>
#include <utility>
#include <vector>

#include "formats/gguf.h"
#include "model/model_spec.h"

namespace adze::model {

// Reads <architecture>.* metadata. Throws core::Error: unknown architecture (with the known ones),
// a missing key, a value out of range, a feature that this forward pass lacks.
ModelSpec spec_from_gguf(const formats::GgufFile& file);

using GgufMetadata = std::vector<std::pair<std::string, formats::GgufValue>>;
// general.* and <architecture>.* keys. file_type: llama.cpp's number of the mix of types.
GgufMetadata gguf_metadata(const ModelSpec& spec, int64_t file_type);

// Tensors that hold numbers of the spec, not weights: rope_freqs.weight, rope_factors_long.weight,
// rope_factors_short.weight. By name, each [dims / 2].
std::vector<std::pair<std::string, std::vector<float>>> rope_tensors(const ModelSpec& spec);
bool is_rope_tensor(std::string_view name);

}  // namespace adze::model
