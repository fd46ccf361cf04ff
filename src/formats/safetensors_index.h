#pragma once
// model.safetensors.index.json: which shard holds which tensor.

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace adze::formats {

// Plain file names -> the names of their tensors, sorted.
using SafetensorsIndex = std::map<std::string, std::vector<std::string>>;

// Throws core::Error, naming `file`: no JSON object with one "weight_map", a tensor twice in a
// shard, or a shard that is not a plain name NAME.safetensors (no folder, no "..", so that it stays
// in its folder). Tensors that two shards claim are left to the caller, who sees the shards.
SafetensorsIndex read_safetensors_index(std::string_view text, const std::string& file);

}  // namespace adze::formats
