#pragma once
// Cuts the tokens that are matched as a whole out of a text.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/special_token_finder.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class AddedTokenFinder {
 public:
  struct Entry {
    AddedToken token;
    std::string text;  // what is looked for
  };

  explicit AddedTokenFinder(std::vector<Entry> entries);
  AddedTokenFinder(AddedTokenFinder&&) = default;

  // From the left: between(begin, end) for text without such tokens, found(id) for a token.
  template <class Between, class Found>
  void split(std::string_view text, Between&& between, Found&& found) const {
    size_t done = 0;
    size_t position = 0;
    while (const auto match = finder_.find(text, position)) {
      position = match->begin + match->length;
      const AddedToken& token = entries_[static_cast<size_t>(match->id)].token;
      if (token.single_word && !stands_alone(text, match->begin, position)) {
        continue;
      }
      const size_t begin =
          std::max(done, token.left_strip ? strip_left(text, match->begin) : match->begin);
      const size_t end = token.right_strip ? strip_right(text, position) : position;
      if (done < begin) {
        between(done, begin);
      }
      found(token.id);
      done = end;
    }
    if (done < text.size()) {
      between(done, text.size());
    }
  }

 private:
  static bool stands_alone(std::string_view text, size_t begin, size_t end);
  static size_t strip_left(std::string_view text, size_t begin);
  static size_t strip_right(std::string_view text, size_t end);

  std::vector<Entry> entries_;
  SpecialTokenFinder finder_;  // gives indices of entries
};

}  // namespace adze::text
