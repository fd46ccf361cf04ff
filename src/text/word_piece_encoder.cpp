#include "text/word_piece_encoder.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

ByteTrie make_trie(const TokenizerSpec& spec) {
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (size_t id = spec.tokens.size(); id-- > 0;) {  // of equal texts the first counts
    const std::string_view text = spec.tokens[id];
    if (may_come_from_text(spec.kinds[id]) && !text.empty() && valid_prefix(text) == text.size()) {
      entries.emplace_back(text, static_cast<int32_t>(id));
    }
  }
  return ByteTrie(std::move(entries));
}

}  // namespace

WordPieceEncoder::WordPieceEncoder(const TokenizerSpec& spec)
    : trie_(make_trie(spec)),
      continuing_(ByteTrie::kRoot),
      max_characters_(static_cast<size_t>(std::max(spec.max_word_characters, 0))),
      unknown_(spec.unknown.value_or(kNoToken)) {
  if (!spec.unknown) {
    throw core::error("tokenizer", "unknown: expected a token for unknown words, got none");
  }
  if (spec.max_word_characters < 1) {
    throw core::error(
        "tokenizer", "max_word_characters: expected at least 1, got {}", spec.max_word_characters);
  }
  for (const char byte : spec.continuing_prefix) {
    if (continuing_ != ByteTrie::kNone) {
      continuing_ = trie_.child(continuing_, static_cast<uint8_t>(byte));
    }
  }
}

void WordPieceEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  const auto characters =
      static_cast<size_t>(std::count_if(piece.begin(), piece.end(), [](char byte) {
        return (static_cast<uint8_t>(byte) & 0xC0) != 0x80;
      }));
  if (characters > max_characters_) {
    ids.push_back(unknown_);
    return;
  }
  const size_t begin = ids.size();
  for (size_t start = 0; start < piece.size();) {
    uint32_t node = start == 0 ? ByteTrie::kRoot : continuing_;
    int32_t longest = ByteTrie::kNoValue;
    size_t longest_end = start;
    for (size_t end = start; end < piece.size() && node != ByteTrie::kNone;) {
      node = trie_.child(node, static_cast<uint8_t>(piece[end++]));
      if (node != ByteTrie::kNone && trie_.value(node) != ByteTrie::kNoValue) {
        longest = trie_.value(node);
        longest_end = end;
      }
    }
    if (longest == ByteTrie::kNoValue) {
      ids.resize(begin);
      ids.push_back(unknown_);
      return;
    }
    ids.push_back(longest);
    start = longest_end;
  }
}

}  // namespace adze::text
