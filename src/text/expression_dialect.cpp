// Oniguruma's dialect (Ruby's syntax) -> PCRE2's, compiled with UTF and without Unicode classes.
// What both mean alike passes; what they mean differently is rewritten; what has no counterpart is
// refused by name, since a wrong match would be silent.

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/error.h"
#include "text/printable.h"
#include "text/regular_expression.h"

namespace adze::text {

namespace {

// NOTE: PCRE2 counts U+180E as white space, Unicode (and the reference tokenizers) do not; so \s is
// written out as Unicode's White_Space.
constexpr std::string_view kSpace = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kDigit = R"(\p{Nd})";
// With the superscripts and fractions of Latin-1, which Oniguruma has there and nowhere else.
constexpr std::string_view kWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kHex = "0-9A-Fa-f";
constexpr std::string_view kLineStart = R"((?:\A|(?<=\n)(?!\z)))";  // Ruby's ^ and $ see all lines
constexpr std::string_view kLineEnd = R"((?=\n|\z))";

// Members of a class named by a letter (\s) or in brackets ([:space:]).
std::string_view members_of(char letter) {
  switch (letter) {
    case 's':
    case 'S':
      return kSpace;
    case 'd':
    case 'D':
      return kDigit;
    case 'w':
    case 'W':
      return kWord;
    case 'h':
    case 'H':
      return kHex;
    default:
      return {};
  }
}

struct Named {
  std::string_view name;
  std::string_view members;
};
constexpr std::array kBracketed{
    Named{"space", kSpace},
    Named{"digit", kDigit},
    Named{"word", kWord},
    Named{"xdigit", kHex},
    Named{"alpha", R"(\p{Alphabetic})"},
    Named{"alnum", R"(\p{Alphabetic}\p{Nd})"},
    Named{"upper", R"(\p{Uppercase})"},
    Named{"lower", R"(\p{Lowercase})"},
    Named{"cntrl", R"(\p{Cc})"},
    Named{"punct", R"(\p{P}\p{S})"},
};
constexpr std::array<std::string_view, 38> kCategories{
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",
    "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi",
    "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs", "Any"};

class Translator {
 public:
  explicit Translator(std::string_view expression) : expression_(expression) {}

  std::string translate() {
    while (position_ < expression_.size()) {
      step();
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw core::error("tokenizer",
                      "expression '{}': {} at byte {} is not supported",
                      printable(expression_, 200),
                      what,
                      position_);
  }
  char peek(size_t ahead = 0) const {
    return position_ + ahead < expression_.size() ? expression_[position_ + ahead] : '\0';
  }
  bool follows(std::string_view text) const {
    return expression_.substr(position_).starts_with(text);
  }
  void take(size_t count) {
    result_.append(expression_.substr(position_, count));
    position_ += count;
  }

  // One atom, group sign or quantifier.
  void step() {
    switch (peek()) {
      case '(':
        open_group();
        return;
      case ')':
        if (groups_.empty()) {
          refuse("an unmatched )");
        }
        atom_ = groups_.back();
        groups_.pop_back();
        take(1);
        return;
      case '|':
        take(1);
        atom_ = result_.size();
        return;
      case '[':
        atom_ = result_.size();
        bracket();
        return;
      case '\\':
        atom_ = result_.size();
        escape();
        return;
      case '^':
        atom_ = result_.size();
        result_ += kLineStart;
        ++position_;
        return;
      case '$':
        atom_ = result_.size();
        result_ += kLineEnd;
        ++position_;
        return;
      case '*':
      case '+':
      case '?':
        take(1);
        if (peek() == '?' || peek() == '+') {
          take(1);
        }
        return;
      case '{':
        interval();
        return;
      default:
        atom_ = result_.size();
        take(1);
        while ((static_cast<uint8_t>(peek()) & 0xC0) == 0x80) {
          take(1);
        }
    }
  }

  void open_group() {
    groups_.push_back(result_.size());
    if (follows("(*") || follows("(?~") || follows("(?C") || follows("(?{")) {
      refuse("a callout, verb or absent group");
    }
    if (!follows("(?") || follows("(?:") || follows("(?=") || follows("(?!") || follows("(?>") ||
        follows("(?<") || follows("(?#")) {
      if (follows("(?#")) {
        groups_.pop_back();
        const size_t end = std::min(expression_.find(')', position_), expression_.size() - 1);
        position_ = end + 1;
        return;
      }
      const bool plain = !follows("(?");
      take(1);
      if (!plain) {
        take(2);  // an angle bracket may begin a look-behind or a name
        while (result_.ends_with('<') && (peek() == '=' || peek() == '!')) {
          take(1);
        }
      }
      return;
    }
    position_ += 2;
    result_ += "(?";
    for (; peek() == 'i' || peek() == 'm' || peek() == '-'; ++position_) {
      result_ += peek() == 'm' ? 's' : peek();  // Ruby's m lets . match line breaks
    }
    // Options without a group of their own reach over alternatives in Ruby, not so here.
    if (peek() != ':' && (peek() != ')' || groups_.back() != 0)) {
      refuse("this group");
    }
  }

  // {2,3} and what may follow it: Ruby has no possessive intervals, so that "+" repeats the whole.
  void interval() {
    size_t end = position_ + 1;
    bool digits = false;
    bool comma = false;
    for (; end < expression_.size() && expression_[end] != '}'; ++end) {
      const char character = expression_[end];
      digits |= character >= '0' && character <= '9';
      if (character == ',' && !comma) {
        comma = true;
      } else if (character < '0' || character > '9') {
        digits = false;
        break;
      }
    }
    if (end >= expression_.size() || expression_[end] != '}' || !digits) {
      atom_ = result_.size();
      result_ += "\\{";
      ++position_;
      return;
    }
    if (expression_[position_ + 1] == ',') {  // {,n}
      result_ += "{0";
      ++position_;
    }
    take(end + 1 - position_);
    const bool repeats = peek() == '+' || peek() == '*' || (peek() == '?' && !comma);
    if (repeats) {
      result_.insert(atom_, "(?:");
      result_ += ')';
    } else if (peek() == '?') {
      take(1);
    }
  }

  void escape() {
    const char letter = peek(1);
    position_ += 2;
    if (const std::string_view members = members_of(letter); !members.empty()) {
      result_.append(letter >= 'a' ? "[" : "[^").append(members).append("]");
      return;
    }
    switch (letter) {
      case 'b':
      case 'B':
        word_edge(letter == 'b');
        return;
      case 'A':
      case 'z':
      case 'Z':
      case 'G':
      case 'R':
      case 'X':
        result_.append({'\\', letter});
        return;
      case 'k':
      case 'g':
        refuse("a reference to a group");
      default:
        if (letter >= '1' && letter <= '9') {
          refuse("a reference to a group");
        }
        character_escape(letter);
    }
  }

  // Where a word begins or ends; or where it does not.
  void word_edge(bool edge) {
    result_ += fmt::format("(?:(?<=[{0}])(?{1}[{0}])|(?<![{0}])(?{2}[{0}]))",
                           kWord,
                           edge ? '!' : '=',
                           edge ? '=' : '!');
  }

  // Escapes that stand for characters or properties, in classes and outside. position_: behind it.
  void character_escape(char letter) {
    switch (letter) {
      case 'p':
      case 'P':
        property(letter);
        return;
      case 'x':
      case 'u':
        hexadecimal(letter);
        return;
      case 'v':
        result_ += R"(\x{0b})";
        return;
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        result_.append({'\\', letter});
        return;
      default:
        break;
    }
    const bool is_letter =
        (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || letter == '\0';
    if (is_letter || (letter >= '0' && letter <= '9')) {
      position_ -= 2;
      refuse(fmt::format("the escape \\{}", letter == '\0' ? ' ' : letter));
    }
    if (static_cast<uint8_t>(letter) >= 0x80) {
      result_ += letter;  // the rest of the character follows as it is
    } else {
      result_.append({'\\', letter});
    }
  }

  void property(char letter) {
    if (peek() != '{') {
      refuse("a property without braces");
    }
    const size_t end = expression_.find('}', position_);
    if (end == std::string_view::npos) {
      refuse("a property without end");
    }
    std::string_view name = expression_.substr(position_ + 1, end - position_ - 1);
    bool negated = letter == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (name.empty() ||
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") !=
            std::string_view::npos) {
      refuse("this property");
    }
    const bool category =
        std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
    const bool binary = name == "Alphabetic" || name == "Uppercase" || name == "Lowercase" ||
                        name == "White_Space" || name == "Emoji";
    // PCRE2's \p{Han} counts script extensions, Oniguruma's does not.
    result_.append(negated ? "\\P{" : "\\p{").append(category || binary ? "" : "sc:");
    result_.append(name).append("}");
    position_ = end + 1;
  }

  void hexadecimal(char letter) {
    const bool braces = letter == 'x' && peek() == '{';
    const size_t begin = position_ + (braces ? 1 : 0);
    const size_t most = letter == 'u' ? 4 : braces ? 8 : 2;
    uint32_t value = 0;
    size_t count = 0;
    for (; count < most && begin + count < expression_.size(); ++count) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      const char character = expression_[begin + count];
      const size_t digit = kDigits.find(
          character >= 'A' && character <= 'F' ? static_cast<char>(character + 32) : character);
      if (digit == std::string_view::npos) {
        break;
      }
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    const bool closed =
        !braces || (begin + count < expression_.size() && expression_[begin + count] == '}');
    const bool legal = value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
    if (count == 0 || !closed || !legal || (letter == 'u' && count != 4) ||
        (letter == 'x' && !braces && value > 0x7F)) {
      refuse("this hexadecimal escape");
    }
    position_ = begin + count + (braces ? 1 : 0);
    result_ += fmt::format("\\x{{{:x}}}", value);
  }

  // A class; position_ is at its [. PCRE2 has no class within a class, so that negated members
  // become alternatives, or, of a negated class, conditions.
  void bracket() {
    const std::string before = std::move(result_);
    result_.clear();
    ++position_;
    const bool negated = peek() == '^';
    position_ += negated ? 1 : 0;
    if (peek() == ']') {  // a literal one
      result_ += "\\]";
      ++position_;
    }
    negated_members_.clear();
    class_members();
    const std::string members = std::move(result_);
    result_ = before;
    if (negated_members_.empty()) {
      result_.append(negated ? "[^" : "[").append(members).append("]");
      return;
    }
    result_ += "(?:";
    if (!members.empty()) {
      result_.append(negated ? "(?![" : "[").append(members).append(negated ? "])" : "]|");
    }
    for (size_t index = 0; index < negated_members_.size(); ++index) {
      const bool last = index + 1 == negated_members_.size();
      const std::string_view set = negated_members_[index];
      if (negated) {
        result_.append(last ? "[" : "(?=[").append(set).append(last ? "]" : "])");
      } else {
        result_.append("[^").append(set).append(last ? "]" : "]|");
      }
    }
    result_ += ')';
  }

  // Up to and with the closing ], which is not written.
  void class_members() {
    while (true) {
      if (position_ >= expression_.size()) {
        refuse("a class without end");
      }
      if (peek() == ']') {
        ++position_;
        return;
      }
      if (follows("&&")) {
        refuse("an intersection of classes");
      }
      if (follows("[:")) {
        bracketed_name();
      } else if (peek() == '[') {
        // Members of a class within a class belong to the outer one.
        if (peek(1) == '^') {
          refuse("a negated class within a class");
        }
        if (++depth_ > 16) {
          refuse("such a deep nesting");
        }
        ++position_;
        class_members();
        --depth_;
      } else if (peek() == '\\') {
        const char letter = peek(1);
        const std::string_view members = members_of(letter);
        position_ += 2;
        if (letter == 'b') {
          result_ += R"(\x{08})";
        } else if (!members.empty() && letter >= 'a') {
          result_ += members;
        } else if (!members.empty()) {
          negated_members_.push_back(members);
        } else {
          character_escape(letter);
        }
      } else {
        take(1);
      }
    }
  }

  void bracketed_name() {
    const size_t end = expression_.find(":]", position_);
    if (end == std::string_view::npos) {
      refuse("[: within a class");
    }
    const std::string_view name = expression_.substr(position_ + 2, end - position_ - 2);
    const auto found = std::find_if(kBracketed.begin(), kBracketed.end(), [&](const Named& named) {
      return named.name == name;
    });
    if (found == kBracketed.end()) {
      refuse("this bracketed name");
    }
    result_ += found->members;
    position_ = end + 2;
  }

  std::string_view expression_;
  std::string result_;
  std::vector<size_t> groups_;                     // where they begin in the result
  std::vector<std::string_view> negated_members_;  // of the class being read: \S, \W, ...
  size_t position_ = 0;
  size_t atom_ = 0;  // where the last atom begins in the result
  int depth_ = 0;
};

}  // namespace

std::string translated_expression(std::string_view expression) {
  return Translator(expression).translate();
}

std::string escaped_expression(std::string_view text) {
  std::string escaped;
  for (const char character : text) {
    const auto byte = static_cast<uint8_t>(character);
    const bool word = byte >= 0x80 || byte <= 0x20 || character == '_' ||
                      (character >= '0' && character <= '9') ||
                      (character >= 'a' && character <= 'z') ||
                      (character >= 'A' && character <= 'Z');
    escaped.append(word ? "" : "\\").append(1, character);
  }
  return escaped;
}

}  // namespace adze::text
