#pragma once
// Which texts a JSON schema's string may be, a Unicode character at a time: any with so many
// characters, or those in which a regular expression matches somewhere. From every state that
// next() gives, some text can still be completed.
//
// Expressions are ECMAScript's, over characters instead of UTF-16 units: literals, ., [classes],
// \d \D \w \W \s \S (of ASCII; \s and . as ECMAScript has them), \n \t \r \f \v \0 \xHH \uHHHH
// \u{H...}, escaped punctuation, groups (...) and (?:...), |, ? * + {m} {m,} {m,n}, lazy forms of
// these, ^ and $. Anything else (references back, \b, looking around, named groups, \p, flags) is
// refused by name.

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace adze::text {

class StringAutomaton {
 public:
  static constexpr uint32_t kDead = std::numeric_limits<uint32_t>::max();
  static constexpr uint32_t kUnlimited = std::numeric_limits<uint32_t>::max();
  // Bounds of an expression.
  static constexpr size_t kMostNesting = 50;      // groups within groups
  static constexpr uint32_t kMostRepeats = 1000;  // m and n in {m,n}
  static constexpr size_t kMostParts = 10'000;    // with repeated parts written out
  static constexpr size_t kMostClasses = 1000;    // ranges of characters that differ
  static constexpr size_t kMostStates = 20'000;

  // Texts of `least` to `most` characters.
  StringAutomaton(uint32_t least, uint32_t most) : least_(least), most_(most) {}
  // Those of them in which `expression` matches. `work` bounds the steps and table entries over
  // several expressions. Throws core::Error: not supported, bounds, no text matches.
  StringAutomaton(std::string_view expression, uint32_t least, uint32_t most, int64_t& work);

  static constexpr uint32_t kStart = 0;

  uint32_t next(uint32_t state, uint32_t code_point) const {
    if (counts()) {
      return state < most_ ? state + 1 : kDead;
    }
    return table_[state * num_classes() + class_of(code_point)];
  }
  bool accepts(uint32_t state) const { return counts() ? state >= least_ : accepting_[state]; }
  // Whether some character from `first` to `last` leads on.
  bool continues(uint32_t state, uint32_t first, uint32_t last) const;

  // Without an expression the state is the number of characters so far.
  bool counts() const { return table_.empty(); }
  uint32_t least() const { return least_; }
  uint32_t most() const { return most_; }

 private:
  size_t num_classes() const { return starts_.size(); }
  size_t class_of(uint32_t code_point) const;

  uint32_t least_;
  uint32_t most_;
  std::vector<uint32_t> starts_;  // the first character of each class, rising
  std::array<uint16_t, 128> ascii_{};
  std::vector<uint32_t> table_;  // [states, classes]
  std::vector<bool> accepting_;
};

}  // namespace adze::text
