#pragma once
// Text <-> token ids, as TokenizerSpec says; nothing here knows a file format.
//
// Normalisation: ids are those of the reference tokenizer, so that text is normalised where it
// does so: NFC for Qwen2, lower case without accents for BERT, U+2581 for spaces and perhaps a
// space in front for SentencePiece, and so on (spec.normalizers, pre_tokenizer_families.h). Then
// decode() gives the normalised text, not the one that was encoded. Byte-level tokenizers without
// a normaliser give every text back byte by byte.
//
// Bytes that are not part of a well-formed UTF-8 sequence: in a byte-level tokenizer each is a
// piece of its own, and the text before and after it is treated as if it ended and began there. In
// any other tokenizer each maximal subpart of such a sequence becomes U+FFFD first.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/token_decoder.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

enum class SpecialTokens {
  kParse,  // "<|im_end|>" in the text becomes the control token
  kPlain,  // it is ordinary text (untrusted input); user-defined tokens still match as a whole
};

class Tokenizer {
 public:
  // Throws core::Error that names the field: ids out of range, merges of unknown tokens,
  // unknown pre-tokenizer, kinds.size() != tokens.size(), ...
  explicit Tokenizer(TokenizerSpec spec);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  // Any bytes, and decode(encode(x)) == x for byte-level BPE with a token for each byte value and
  // no normaliser. Bytes in missing_bytes() are left out, as in the reference tokenizers.
  // add_begin_of_text and add_end_of_text are the caller's business.
  // Throws core::Error when an expression of the tokenizer does not come to an end on the text.
  std::vector<int32_t> encode(std::string_view text, SpecialTokens special) const;
  // For text of a trusted author around text of strangers, which must not become control tokens:
  // protect() puts `mark` into each control token's text, and encode_protected() is encode(kParse)
  // of a text with such marks, which are left out. `mark`: whole characters that neither author
  // uses. A control token of a single character cannot be protected.
  std::string protect(std::string_view text, std::string_view mark) const;
  std::vector<int32_t> encode_protected(std::string_view text, std::string_view mark) const;
  // The bytes of the tokens; control tokens give their text only if asked.
  // Throws core::Error for an id outside [0, vocab_size).
  std::string decode(std::span<const int32_t> ids, bool with_control_tokens = true) const;

  // Decoded bytes within a text, e.g. " the"; the first token of a text may differ, see
  // decode_next.
  const std::string& token_bytes(int32_t id) const;
  // Appends what the token adds to a text: decode() in parts. `state` starts as State{}.
  void decode_next(int32_t id, TokenDecoder::State& state, std::string& text) const;
  bool is_control(int32_t id) const;  // control and unknown tokens
  // Id of the token with these bytes; where several have them, an ordinary one before a control
  // one.
  std::optional<int32_t> find(std::string_view text) const;
  // Byte values without a token of their own, ascending: encode() leaves them out. Byte-level
  // vocabularies such as SmolLM2's lack some control bytes and bytes of rare planes.
  const std::string& missing_bytes() const;
  // Ids after which generation ends: end of text and what templates end a turn with
  // (<|im_end|>, <|eot_id|>, <|endoftext|>, <end_of_turn>, ...), as far as they are control tokens.
  const std::vector<int32_t>& end_of_generation() const;
  int64_t vocab_size() const;
  const TokenizerSpec& spec() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace adze::text
