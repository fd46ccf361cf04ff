#include "infer/prompt_lookup.h"

#include <algorithm>

namespace adze::infer {

PromptLookup::PromptLookup(std::span<const int32_t> text) {
  for (const int32_t token : text) {
    append(token);
  }
}

void PromptLookup::append(int32_t token) {
  text_.push_back(token);
  for (size_t i = 0; i < kLengths.size(); ++i) {
    found_[i] = 0;
    if (text_.size() >= kLengths[i]) {
      size_t& place = next_[i][newest(kLengths[i])];
      found_[i] = place;
      place = text_.size();
    }
  }
}

std::vector<int32_t> PromptLookup::guess(int64_t most) const {
  std::vector<int32_t> tokens;
  const auto place = std::find_if(found_.begin(), found_.end(), [](size_t p) { return p != 0; });
  for (size_t i = 0; place != found_.end() && i < static_cast<size_t>(most); ++i) {
    // Past the text's end the guess itself goes on: a loop stays one.
    const size_t index = *place + i;
    tokens.push_back(index < text_.size() ? text_[index] : tokens[index - text_.size()]);
  }
  return tokens;
}

// Of unequal n-grams with equal hashes the worst is a wrong guess.
uint64_t PromptLookup::newest(size_t length) const {
  uint64_t hash = 0;
  for (auto token = text_.end() - static_cast<int64_t>(length); token != text_.end(); ++token) {
    hash = (hash ^ static_cast<uint32_t>(*token)) * 0x9E3779B97F4A7C15;
  }
  return hash;
}

}  // namespace adze::infer
