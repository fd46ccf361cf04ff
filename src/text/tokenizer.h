#pragma once
// Text <-> token ids. The specification is plain data (data/tokenizer_files makes it from GGUF
// metadata), so that nothing here knows a file format. Text is not normalised: where a reference
// tokenizer applies NFC first (Qwen2), text that is not NFC gives other ids and survives unchanged.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace adze::text {

enum class TokenKind : uint8_t { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct TokenizerSpec {
  std::string model = "gpt2";       // "gpt2": byte-level BPE
  std::string pre_tokenizer;        // "smollm", "gpt-2", "llama-bpe", "qwen2", ...
  std::vector<std::string> tokens;  // byte-level BPE: in GPT-2's printable alphabet
  std::vector<TokenKind> kinds;     // one a token
  std::vector<std::string> merges;  // "left right", best first
  std::optional<int32_t> begin_of_text;
  std::optional<int32_t> end_of_text;
  std::optional<int32_t> unknown;
  std::optional<int32_t> padding;
  bool add_begin_of_text = false;
};

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

  // Any bytes, and decode(encode(x)) == x for byte-level BPE with a token for each byte value. A
  // byte that is not part of a well-formed UTF-8 sequence is a piece of its own, and the text
  // before and after it is pre-tokenized as if it ended and began there. Bytes in missing_bytes()
  // are left out, as in the reference tokenizers. add_begin_of_text is the caller's business.
  std::vector<int32_t> encode(std::string_view text, SpecialTokens special) const;
  // The bytes of the tokens; control tokens give their text only if asked.
  // Throws core::Error for an id outside [0, vocab_size).
  std::string decode(std::span<const int32_t> ids, bool with_control_tokens = true) const;

  const std::string& token_bytes(int32_t id) const;  // decoded bytes, e.g. " the"
  bool is_control(int32_t id) const;                 // control and unknown tokens
  // Id of the token with these bytes; where several have them, an ordinary one before a control
  // one.
  std::optional<int32_t> find(std::string_view text) const;
  // Byte values without a token of their own, ascending: encode() leaves them out. Vocabularies
  // such as SmolLM2's lack some control bytes and bytes of rare planes.
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
