#pragma once
// Byte-pair encoding of one pre-tokenized piece: bytes become tokens, then the best-ranked pair of
// neighbours merges, leftmost first, until no pair is mergeable. O(n log n) in the piece's bytes.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/text_index.h"
#include "text/tokenizer.h"

namespace adze::text {

class BytePairEncoder {
 public:
  // Throws core::Error: malformed merges, merges of or into texts that are no token.
  BytePairEncoder(const TokenizerSpec& spec, const TextIndex& index);

  // Appends the piece's tokens. Bytes without a token are left out before anything merges.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

  const std::string& missing_bytes() const { return missing_bytes_; }  // have no token

 private:
  void fill_byte_tokens(const TokenizerSpec& spec, const TextIndex& index);
  void fill_merges(const TokenizerSpec& spec, const TextIndex& index);
  size_t merge_short(std::span<int32_t> tokens) const;  // returns how many tokens are left
  size_t merge_long(std::span<int32_t> tokens) const;

  std::array<int32_t, 256> token_of_byte_;
  std::string missing_bytes_;
  MergeTable merges_;
};

}  // namespace adze::text
