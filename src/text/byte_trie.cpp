#include "text/byte_trie.h"

#include "core/error.h"

namespace adze::text {

namespace {

constexpr size_t kMaxBytes = size_t{8} << 20;

struct Range {  // of entries that agree up to a node
  uint32_t begin;
  uint32_t end;
};

}  // namespace

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> entries) : first_(256, kNone) {
  size_t bytes = 0;
  for (const auto& entry : entries) {
    bytes += entry.first.size();
  }
  if (bytes > kMaxBytes) {
    throw core::error("tokenizer", "tokens: expected at most {} bytes, got {}", kMaxBytes, bytes);
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& first, const auto& second) {
    return first.first < second.first;
  });
  // Level by level, so that the children of a node lie behind one another.
  std::vector<Range> level{{0, static_cast<uint32_t>(entries.size())}};
  labels_.push_back(0);
  values_.push_back(kNoValue);
  for (size_t depth = 0; !level.empty(); ++depth) {
    std::vector<Range> next;
    for (const Range& range : level) {
      children_.push_back(static_cast<uint32_t>(labels_.size()));
      uint32_t begin = range.begin;
      while (begin < range.end && entries[begin].first.size() == depth) {
        ++begin;  // ends at this node itself
      }
      while (begin < range.end) {
        const auto label = static_cast<uint8_t>(entries[begin].first[depth]);
        uint32_t end = begin;
        int32_t value = kNoValue;
        while (end < range.end && static_cast<uint8_t>(entries[end].first[depth]) == label) {
          value = entries[end].first.size() == depth + 1 ? entries[end].second : value;
          ++end;
        }
        if (depth == 0) {
          first_[label] = static_cast<uint32_t>(labels_.size());
        }
        labels_.push_back(label);
        values_.push_back(value);
        next.push_back({begin, end});
        begin = end;
      }
    }
    level = std::move(next);
  }
  children_.push_back(static_cast<uint32_t>(labels_.size()));
}

}  // namespace adze::text
