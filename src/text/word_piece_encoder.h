#pragma once
// WordPiece: a word is the longest token that fits, then the longest of those that continue a word,
// and so on; a word that does not come out is unknown as a whole.

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"
#include "text/piece_encoder.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class WordPieceEncoder : public PieceEncoder {
 public:
  // Throws core::Error: no unknown token, a word length that is not positive.
  explicit WordPieceEncoder(const TokenizerSpec& spec);

  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;

 private:
  ByteTrie trie_;
  uint32_t continuing_;  // the node behind the continuing prefix, or kNone
  size_t max_characters_;
  int32_t unknown_;
};

}  // namespace adze::text
