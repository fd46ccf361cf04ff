#include "text/charsmap.h"

#include <cstring>

#include "core/error.h"

namespace adze::text {

namespace {

// The bits of a unit, as in the darts-clone library: label, has-leaf flag, offset to the children;
// a unit reached through the has-leaf flag holds a value instead.
constexpr uint32_t label_of(uint32_t unit) {
  return unit & ((1U << 31) | 0xFF);
}
constexpr bool has_leaf(uint32_t unit) {
  return ((unit >> 8) & 1) == 1;
}
constexpr uint32_t offset_of(uint32_t unit) {
  return (unit >> 10) << ((unit & (1U << 9)) >> 6);
}
constexpr uint32_t value_of(uint32_t unit) {
  return unit & ((1U << 31) - 1);
}

}  // namespace

Charsmap::Charsmap(std::string_view table) {
  if (table.empty()) {
    return;
  }
  uint32_t trie_bytes = 0;
  if (table.size() > sizeof(trie_bytes)) {
    std::memcpy(&trie_bytes, table.data(), sizeof(trie_bytes));
  }
  table.remove_prefix(std::min(table.size(), sizeof(trie_bytes)));
  if (trie_bytes == 0 || trie_bytes % sizeof(uint32_t) != 0 || trie_bytes >= table.size()) {
    throw core::error("tokenizer",
                      "precompiled_charsmap: expected a trie of 4 to {} bytes, got {}",
                      table.size(),
                      trie_bytes);
  }
  units_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(units_.data(), table.data(), trie_bytes);
  texts_ = table.substr(trie_bytes);
  if (texts_.back() != '\0') {
    throw core::error("tokenizer", "precompiled_charsmap: expected a zero byte at its end");
  }
}

uint32_t Charsmap::unit(uint32_t index) const {
  if (index >= units_.size()) {
    throw core::error("tokenizer",
                      "precompiled_charsmap: expected units 0 to {}, got {}",
                      units_.size() - 1,
                      index);
  }
  return units_[index];
}

std::string_view Charsmap::text_at(uint32_t place) const {
  if (place >= texts_.size()) {
    throw core::error("tokenizer",
                      "precompiled_charsmap: expected texts at 0 to {}, got {}",
                      texts_.size() - 1,
                      place);
  }
  return texts_.c_str() + place;
}

std::optional<Charsmap::Replacement> Charsmap::find(std::string_view text, bool first) const {
  std::optional<Replacement> found;
  if (units_.empty()) {
    return found;
  }
  uint32_t node = offset_of(unit(0));
  for (size_t index = 0; index < text.size() && text[index] != '\0'; ++index) {
    const auto byte = static_cast<uint8_t>(text[index]);
    node ^= byte;
    const uint32_t current = unit(node);
    if (label_of(current) != byte) {
      break;
    }
    node ^= offset_of(current);
    if (has_leaf(current)) {
      found = Replacement{index + 1, text_at(value_of(unit(node)))};
      if (first) {
        break;
      }
    }
  }
  return found;
}

}  // namespace adze::text
