#pragma once
// SentencePiece's table of replacements ("precompiled_charsmap"): a double array trie from texts to
// places in a list of texts, each ended by a zero byte. Layout: uint32 bytes of the trie, the trie
// (32-bit units, little endian), the list.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace adze::text {

class Charsmap {
 public:
  // An empty table replaces nothing. Throws core::Error: sizes that do not fit the bytes.
  explicit Charsmap(std::string_view table);

  bool empty() const { return units_.empty(); }

  struct Replacement {
    size_t length;          // bytes replaced at the front of the text
    std::string_view text;  // what stands for them
  };
  // Of the entries that the text begins with. Throws core::Error where the table is broken.
  std::optional<Replacement> shortest(std::string_view text) const { return find(text, true); }
  std::optional<Replacement> longest(std::string_view text) const { return find(text, false); }

 private:
  std::optional<Replacement> find(std::string_view text, bool first) const;
  uint32_t unit(uint32_t index) const;
  std::string_view text_at(uint32_t place) const;

  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace adze::text
