#pragma once
// Tokens -> text, one token at a time.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_spec.h"

namespace adze::text {

class TokenDecoder {
 public:
  // What decoding remembers between the tokens of a text.
  struct State {
    bool first = true;
    int32_t stripped = 0;  // at the front of the text; -1: done
  };

  // Texts that tokens matched in normalised text have there, by id.
  using NormalizedTexts = std::unordered_map<int32_t, std::string>;

  // Throws core::Error: steps in an order that means nothing.
  TokenDecoder(const TokenizerSpec& spec, bool byte_level, NormalizedTexts normalized);

  // Bytes of a token that is not the first of a text.
  const std::string& bytes(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
  size_t size() const { return bytes_.size(); }
  void append(int32_t id, State& state, std::string& text) const;

 private:
  std::string decoded(size_t id, bool first) const;

  const TokenizerSpec* spec_;
  bool byte_level_;
  NormalizedTexts normalized_;
  std::vector<DecoderStep> steps_;  // of one token
  std::string stripped_text_;       // at the front of the whole text
  int32_t strip_count_ = 0;
  bool first_differs_ = false;
  std::vector<std::string> bytes_;
};

}  // namespace adze::text
