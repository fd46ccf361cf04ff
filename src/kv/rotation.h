#pragma once
// Rotary angles of a model in the two layouts that attention needs: by position for rows, by rank
// with tokens last for tiles of unrotated keys. Layers may turn at different speeds.

#include <cstdint>
#include <vector>

#include "kernels/paged_attention/paged_attention.h"
#include "kernels/rope/rope.h"
#include "model/model_spec.h"

namespace adze::kv {

class Rotation {
 public:
  // context: positions that a text may reach (model::rope_frequencies).
  Rotation(const model::ModelSpec& spec, int64_t context);

  // Null where a layer's model embeds positions and rotates nothing.
  const kernels::RopeTable* table(int64_t layer) const;
  void reserve_positions(int64_t positions);
  // Tiles for ranks [0, tokens); null pointers where nothing is rotated.
  kernels::KeyRotation key_rotation(int64_t layer, int64_t tokens);

 private:
  struct Angles {
    kernels::RopeTable table;
    std::vector<float> cosine;  // [pages, head_dim / 2, 32]
    std::vector<float> sine;
  };

  std::vector<Angles> angles_;  // one a rope of the model
  std::vector<int64_t> rope_of_layer_;
};

}  // namespace adze::kv
