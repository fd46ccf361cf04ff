#pragma once
// Byte-pair encoding of characters, in both its forms: by a list of merges (`tokenizers`) and by
// the scores of tokens (SentencePiece). Characters without a token become their bytes' tokens
// (byte fallback) or the unknown token.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_encoder.h"
#include "text/special_token_finder.h"
#include "text/text_index.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class CharacterPairEncoder : public PieceEncoder {
 public:
  // Throws core::Error: malformed merges, scores that are no numbers, no unknown token where one
  // is needed.
  CharacterPairEncoder(const TokenizerSpec& spec, const TextIndex& index);

  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;

 private:
  void fill_characters();
  void fill_merges();
  void fill_scored_merges();
  void note_inner_word_start(std::string_view text);

  int32_t token_of(uint32_t code_point, std::string_view bytes) const;
  bool has_byte_tokens(std::string_view bytes) const;
  void append_bytes(std::string_view bytes, std::vector<int32_t>& ids) const;

  void encode_words(std::string_view piece, std::vector<int32_t>& ids) const;
  void encode_merged(std::string_view piece, std::vector<int32_t>& ids) const;
  void encode_scored(std::string_view piece, std::vector<int32_t>& ids) const;
  void append_fallback(uint32_t code_point, bool& after_unknown, std::vector<int32_t>& ids) const;

  const TokenizerSpec* spec_;
  const TextIndex* index_;
  std::vector<int32_t> token_of_low_;  // by code point below U+10000
  std::array<int32_t, 256> token_of_byte_;
  MergeTable merges_;
  // kScoredPairs: characters that only occur within tokens have ids above the vocabulary.
  std::vector<uint32_t> characters_;
  std::unordered_map<uint32_t, int32_t> inner_;
  SpecialTokenFinder user_defined_;  // kScoredPairs: never merge
  bool has_unused_ = false;          // kScoredPairs: tokens that are taken apart again
  bool words_are_apart_ = true;      // no token has U+2581 behind another character
};

}  // namespace adze::text
