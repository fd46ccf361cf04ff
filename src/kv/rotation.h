#pragma once
// Rotary angles in the two layouts that attention needs: by position for rows, by rank with tokens
// last for tiles of unrotated keys.

#include <cstdint>
#include <vector>

#include "kernels/paged_attention/paged_attention.h"
#include "kernels/rope/rope.h"

namespace adze::kv {

class Rotation {
 public:
  Rotation(int64_t head_dim, double base) : table_(head_dim, base) {}

  void reserve_positions(int64_t positions) { table_.reserve(positions); }
  // Tiles for ranks [0, tokens).
  kernels::KeyRotation key_rotation(int64_t tokens);
  const kernels::RopeTable& table() const { return table_; }

 private:
  kernels::RopeTable table_;
  std::vector<float> cosine_;  // [pages, head_dim / 2, 32]
  std::vector<float> sine_;
};

}  // namespace adze::kv
