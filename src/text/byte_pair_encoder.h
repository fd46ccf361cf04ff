#pragma once
// Byte-pair encoding of bytes: each becomes a token, then neighbours merge.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_encoder.h"
#include "text/text_index.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class BytePairEncoder : public PieceEncoder {
 public:
  // Throws core::Error: malformed merges, merges of or into texts that are no token.
  BytePairEncoder(const TokenizerSpec& spec, const TextIndex& index);

  // Bytes without a token are left out before anything merges.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const override;
  const std::string& missing_bytes() const override { return missing_bytes_; }

 private:
  void fill_byte_tokens(const TokenizerSpec& spec, const TextIndex& index);
  bool is_whole_token(std::string_view piece, std::vector<int32_t>& ids) const;

  const TokenizerSpec* spec_;
  const TextIndex* index_;
  std::array<int32_t, 256> token_of_byte_;
  std::string missing_bytes_;
  MergeTable merges_;
};

}  // namespace adze::text
