#pragma once
// Which layers read another's keys and values (ModelSpec::kv_source), and how files say it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/config_fields.h"
#include "model/model_spec.h"

namespace adze::model {

enum class ShortGroup {
  kFirst,
  kLast
};  // where it stands if the factor does not divide the layers

std::vector<int64_t> own_kv_sources(int64_t num_layers);  // every layer owns its keys and values
// Neighbours share: `factor` layers a group, 1 to num_layers, the lowest of a group owns.
std::vector<int64_t> grouped_kv_sources(int64_t num_layers, int64_t factor, ShortGroup short_group);
// The last `shared` layers, 0 to num_layers - 1, read the last layer before them all that sees the
// same window. nullopt where there is none.
std::optional<std::vector<int64_t>> trailing_kv_sources(const ModelSpec& spec, int64_t shared);

// Sets kv_source and key_value_norm from config.json, in each spelling in use; windows and ropes
// are known already:
//   kv_sharing {factor, remainder} or {source: [...]}, separate_norms    ours
//   use_cla, cla_share_factor                                            Hunyuan
//   num_kv_shared_layers                                                 Gemma 3n
//   layer_types "0_0_2_2"                                                LCKV; 2s: sees a window
// Throws core::Error: two of them at once, a value out of range, what the forward pass lacks.
void read_kv_sharing(const ConfigFields& config, ModelSpec& spec);

// config.json's "kv_sharing"; null where every layer owns its keys and values.
nlohmann::ordered_json kv_sharing_object(const ModelSpec& spec);

// Bytes of a token in the cache, and bytes that a step reads for each cached token: every layer
// reads, whoever owns.
struct KvBytes {
  int64_t cached = 0;
  int64_t read = 0;
};
KvBytes kv_bytes_per_token(const ModelSpec& spec, int64_t value_bytes);

// "0-1, 2-3, 4+6+8-9": layers of a group, its owner first.
std::string kv_groups_text(const std::vector<int64_t>& kv_source);

}  // namespace adze::model
