#include "kv/rotation.h"

#include <utility>

namespace adze::kv {

Rotation::Rotation(const model::ModelSpec& spec, int64_t context) {
  for (const model::Rope& rope : spec.ropes) {
    model::RopeFrequencies frequencies = model::rope_frequencies(rope, spec.head_dim, context);
    angles_.push_back(
        {kernels::RopeTable(std::move(frequencies.radians), frequencies.magnitude), {}, {}});
  }
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    rope_of_layer_.push_back(spec.rope_index(layer));
  }
}

const kernels::RopeTable* Rotation::table(int64_t layer) const {
  return angles_.empty()
             ? nullptr
             : &angles_[static_cast<size_t>(rope_of_layer_[static_cast<size_t>(layer)])].table;
}

void Rotation::reserve_positions(int64_t positions) {
  for (Angles& angles : angles_) {
    angles.table.reserve(positions);
  }
}

kernels::KeyRotation Rotation::key_rotation(int64_t layer, int64_t tokens) {
  if (angles_.empty()) {
    return {};
  }
  constexpr int64_t kTokens = kernels::kPageTokens;
  Angles& angles = angles_[static_cast<size_t>(rope_of_layer_[static_cast<size_t>(layer)])];
  const int64_t half = angles.table.half();
  const int64_t tile = half * kTokens;
  const int64_t pages = (tokens + kTokens - 1) / kTokens;
  angles.table.reserve(pages * kTokens);
  for (auto page = static_cast<int64_t>(angles.cosine.size()) / tile; page < pages; ++page) {
    for (int64_t i = 0; i < half; ++i) {
      for (int64_t token = 0; token < kTokens; ++token) {
        angles.cosine.push_back(angles.table.cosine(page * kTokens + token)[i]);
        angles.sine.push_back(angles.table.sine(page * kTokens + token)[i]);
      }
    }
  }
  return {angles.cosine.data(), angles.sine.data()};
}

}  // namespace adze::kv
