#pragma once
// Finds tokens that are matched as whole texts ("<|im_end|>"): leftmost, then longest.

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace adze::text {

class SpecialTokenFinder {
 public:
  // Texts that the caller keeps, with their ids; empty texts never match.
  explicit SpecialTokenFinder(std::vector<std::pair<std::string_view, int32_t>> tokens);

  struct Found {
    size_t begin;
    size_t length;
    int32_t id;
  };
  std::optional<Found> find(std::string_view text, size_t start) const;

 private:
  std::optional<Found> longest_at(std::string_view text, size_t begin) const;

  std::vector<std::pair<std::string_view, int32_t>> tokens_;  // sorted by text
  std::bitset<256> first_bytes_;
};

}  // namespace adze::text
