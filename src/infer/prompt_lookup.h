#pragma once
// Guesses the next tokens from repetition: what followed the last time that the text's newest few
// tokens stood in it (prompt lookup decoding:
// https://github.com/apoorvumang/prompt-lookup-decoding). A guess costs nothing but the rows that
// check it.

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace adze::infer {

constexpr int64_t kMostGuesses = 15;

class PromptLookup {
 public:
  explicit PromptLookup(std::span<const int32_t> text);

  void append(int32_t token);
  // `most` tokens, or none where nothing repeats.
  std::vector<int32_t> guess(int64_t most) const;

 private:
  // Longer ones first: fewer false matches. Two tokens recur by chance all the time.
  static constexpr std::array<size_t, 2> kLengths = {5, 3};

  uint64_t newest(size_t length) const;  // hash of the last `length` tokens

  std::vector<int32_t> text_;
  // By length: where the text went on after an n-gram, the last time before now.
  std::array<std::unordered_map<uint64_t, size_t>, kLengths.size()> next_;
  std::array<size_t, kLengths.size()> found_{};  // of the newest n-gram; 0: it is new
};

}  // namespace adze::infer
