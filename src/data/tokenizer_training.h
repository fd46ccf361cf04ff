#pragma once
// Byte-level byte-pair encoding learnt from text (Sennrich et al., arXiv:1508.07909; over bytes as
// in GPT-2): starting from the 256 bytes, the most frequent pair of neighbouring tokens becomes a
// token, until the vocabulary is full.

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer_spec.h"

namespace adze::data {

struct TokenizerTrainingOptions {
  int64_t vocab_size = 8192;
  std::string pre_tokenizer = "gpt-2";

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit(
        "vocab-size", self.vocab_size, "tokens, 257 to 1000000: <|endoftext|>, 256 bytes, merges");
    visit("pre-tokenizer",
          self.pre_tokenizer,
          "family of rules that cut text into words: gpt-2, smollm, llama-bpe, qwen2, ...");
  }
};

// Words (pieces between which nothing merges) and how often each occurs.
class WordCounts {
 public:
  explicit WordCounts(const std::string& pre_tokenizer);
  ~WordCounts();
  WordCounts(WordCounts&&) noexcept;

  // All cores. Bytes that are no UTF-8 end a word and are left out.
  void add(const std::vector<std::string>& texts);
  const std::unordered_map<std::string, int64_t>& counts() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// Merges in order: pairs of token ids, where ids 0 to 255 are bytes and the n-th merge makes id
// 256 + n. Of pairs equally frequent the one with the smaller ids goes first. Fewer than wanted
// where every word has become one token or no pair occurs twice.
std::vector<std::pair<int32_t, int32_t>> learn_merges(
    const std::unordered_map<std::string, int64_t>& words, int64_t count);

// <|endoftext|> is id 0, bytes are ids 1 to 256, merges follow.
text::TokenizerSpec byte_pair_tokenizer(const std::vector<std::pair<int32_t, int32_t>>& merges,
                                        const std::string& pre_tokenizer);

}  // namespace adze::data
