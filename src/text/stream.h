#pragma once
// What stands between tokens and a reader: their bytes as they come, whole UTF-8 characters only,
// and stop strings that may span tokens.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace adze::text {

// The bytes of a text's tokens, one at a time: together they are decode() of all of them, where
// the first token may lose a space (SentencePiece, WordPiece). For text that continues another,
// Tokenizer::token_bytes is right instead.
class TokenStream {
 public:
  // Control tokens give their text only if asked. The tokenizer must outlive the stream.
  explicit TokenStream(const Tokenizer& tokenizer, bool with_control_tokens = true)
      : tokenizer_(tokenizer), with_control_tokens_(with_control_tokens) {}

  std::string push(int32_t id);  // throws core::Error for an id outside the vocabulary

 private:
  const Tokenizer& tokenizer_;
  bool with_control_tokens_;
  TokenDecoder::State state_;
};

// Holds back an incomplete character at the end; invalid bytes become U+FFFD (one for each maximal
// subpart, as in the Unicode standard, section 3.9).
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();  // what was held back, as U+FFFD

 private:
  std::string held_;
};

// Finds the earliest of several stop strings in streamed text: the one that ends first, and of
// those the longest, so that the result does not depend on how the text is cut. Text that could
// still become a stop string is held back; the stop string itself is never given out.
class StopMatcher {
 public:
  // Copies share the strings. Throws InvalidOption for an empty string.
  explicit StopMatcher(std::vector<std::string> stops);

  std::string push(std::string_view text);  // text that is safe to show
  bool stopped() const { return stopped_; }
  std::string finish();  // what was held back, when generation ended without a stop string

 private:
  // One stop string and, for each front part, its longest proper front that also ends it (Knuth,
  // Morris, Pratt: "Fast pattern matching in strings", 1977), so that each byte costs O(1) however
  // repetitive both are.
  struct Stop {
    std::string text;
    std::vector<size_t> borders;

    size_t advance(size_t matched, char byte) const;
  };

  std::shared_ptr<const std::vector<Stop>> stops_;
  std::vector<size_t> matched_;  // of each stop string, what the text's end matches
  std::string held_;
  bool stopped_ = false;
};

}  // namespace adze::text
