#pragma once
// The tokens whose scores have the greatest sum (Kudo, "Subword regularization", 2018), found by
// Viterbi's algorithm in O(bytes x longest token).

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"
#include "text/piece_encoder.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class UnigramEncoder : public PieceEncoder {
 public:
  // Throws core::Error: scores that are no numbers, no unknown token.
  explicit UnigramEncoder(const TokenizerSpec& spec);

  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;

 private:
  // The best way to the end of a character. Sums are float where SentencePiece decides by float.
  template <class Score>
  struct Node {
    Score score;
    uint32_t start;  // of its last token; kUnreached: none
    int32_t token;
  };

  template <class Score>
  void encode_as(std::string_view piece, std::vector<int32_t>& ids) const;
  template <class Score>
  void append_path(std::string_view text,
                   const std::vector<Node<Score>>& nodes,
                   bool& after_unknown,
                   std::vector<int32_t>& ids) const;
  void append_unknown(std::string_view text, bool& after_unknown, std::vector<int32_t>& ids) const;
  double score_of(int32_t token, size_t bytes) const;

  const TokenizerSpec* spec_;
  ByteTrie trie_;
  std::vector<double> scores_;
  std::vector<bool> has_bonus_;  // user-defined tokens, by SentencePiece's rules
  double unknown_score_ = 0;
  double best_score_ = 0;
  int32_t unknown_ = kNoToken;
  std::array<int32_t, 256> token_of_byte_;
};

}  // namespace adze::text
