#pragma once
// Texts -> values, walked byte by byte. Nine bytes a node: children of a node are neighbours.

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace adze::text {

class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr int32_t kNoValue = -1;

  // Texts that are not empty, with values that are not negative; of equal texts the last counts.
  // Throws core::Error when they have more than 8 MiB in all.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries);

  // The node that `byte` leads to, or kNone.
  uint32_t child(uint32_t node, uint8_t byte) const {
    if (node == kRoot) {
      return first_[byte];
    }
    const uint32_t begin = children_[node];
    const uint32_t end = children_[node + 1];
    if (end - begin <= kFewChildren) {
      for (uint32_t next = begin; next < end; ++next) {
        if (labels_[next] == byte) {
          return next;
        }
      }
      return kNone;
    }
    const auto found = std::lower_bound(labels_.begin() + begin, labels_.begin() + end, byte);
    return found != labels_.begin() + end && *found == byte
               ? static_cast<uint32_t>(found - labels_.begin())
               : kNone;
  }
  int32_t value(uint32_t node) const { return values_[node]; }  // kNoValue: no text ends here

 private:
  static constexpr uint32_t kFewChildren = 8;

  std::vector<uint32_t> children_;  // of node n: from children_[n] to children_[n + 1]
  std::vector<uint8_t> labels_;
  std::vector<int32_t> values_;
  std::vector<uint32_t> first_;  // by byte, from the root
};

}  // namespace adze::text
