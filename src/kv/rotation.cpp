#include "kv/rotation.h"

namespace adze::kv {

kernels::KeyRotation Rotation::key_rotation(int64_t tokens) {
  constexpr int64_t kTokens = kernels::kPageTokens;
  const int64_t half = table_.half();
  const int64_t tile = half * kTokens;
  const int64_t pages = (tokens + kTokens - 1) / kTokens;
  table_.reserve(pages * kTokens);
  for (auto page = static_cast<int64_t>(cosine_.size()) / tile; page < pages; ++page) {
    for (int64_t i = 0; i < half; ++i) {
      for (int64_t token = 0; token < kTokens; ++token) {
        cosine_.push_back(table_.cosine(page * kTokens + token)[i]);
        sine_.push_back(table_.sine(page * kTokens + token)[i]);
      }
    }
  }
  return {cosine_.data(), sine_.data()};
}

}  // namespace adze::kv
