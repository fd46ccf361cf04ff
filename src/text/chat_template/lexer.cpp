#include "text/chat_template/lexer.h"

#include <algorithm>
#include <array>

#include "text/chat_template/literals.h"
#include "text/chat_template/runtime.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

using Kind = Token::Kind;

constexpr auto kNone = std::string_view::npos;

// Looking a variable up compares names, which must not take long.
constexpr size_t kMaxNameBytes = 1000;

// Longest first, so that "**" is not read as two "*".
constexpr std::array<std::string_view, 26> kOperators{
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
    ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ".", ":", "|", ",", ";"};

bool is_digit(char character) {
  return character >= '0' && character <= '9';
}

bool begins_name(char character) {
  const auto byte = static_cast<uint8_t>(character);
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' ||
         byte >= 0x80;
}

// "\r\n" and "\r" become "\n"; one line break at the end goes.
std::string normalize_line_breaks(std::string_view source) {
  std::string normalized;
  normalized.reserve(source.size());
  for (size_t index = 0; index < source.size(); ++index) {
    if (source[index] != '\r') {
      normalized += source[index];
      continue;
    }
    normalized += '\n';
    if (index + 1 < source.size() && source[index + 1] == '\n') {
      ++index;
    }
  }
  if (normalized.ends_with('\n')) {
    normalized.pop_back();
  }
  return normalized;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_line_breaks(source)) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) {
      read_data();
    }
    add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(position_); }

  void add(Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  void advance(size_t count) {
    const std::string_view passed = rest().substr(0, count);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    position_ += passed.size();
  }

  // Data up to the next tag, and that tag.
  void read_data() {
    const size_t begin = find_tag(position_);
    const std::string_view data = std::string_view(source_).substr(position_, begin - position_);
    if (begin == kNone) {
      add_data(data);
      advance(data.size());
      return;
    }
    const char sort = source_[begin + 1];
    const char sign = begin + 2 < source_.size() ? source_[begin + 2] : '\0';
    add_data(strip_before_tag(data, sign, sort != '{'));
    advance(data.size() + 2);
    if (sign == '-' || sign == '+') {
      advance(1);
    }
    if (sort == '#') {
      skip_comment();
    } else if (sort == '{') {
      read_tag(Kind::kVariableBegin, Kind::kVariableEnd, "}}");
    } else if (!read_raw()) {
      read_tag(Kind::kBlockBegin, Kind::kBlockEnd, "%}");
    }
  }

  size_t find_tag(size_t from) const {
    for (size_t at = source_.find('{', from); at != kNone; at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() &&
          (source_[at + 1] == '{' || source_[at + 1] == '%' || source_[at + 1] == '#')) {
        return at;
      }
    }
    return kNone;
  }

  void add_data(std::string_view data) {
    if (!data.empty()) {
      add(Kind::kData, std::string(data));
    }
  }

  // What "-" or lstrip_blocks leave of the text before a tag.
  std::string_view strip_before_tag(std::string_view data, char sign, bool block) const {
    if (sign == '-') {
      return strip_right(data);
    }
    if (sign == '+' || !block) {
      return data;
    }
    const size_t line_break = data.rfind('\n');
    const size_t line_begin = line_break == kNone ? 0 : line_break + 1;
    const bool at_line_begin = line_break != kNone || at_line_begin_;
    return at_line_begin && strip_right(data.substr(line_begin)).empty()
               ? data.substr(0, line_begin)
               : data;
  }

  // Passes the end of a tag: its mark, and the white space that goes with it.
  void pass_end(std::string_view mark, bool trims_line_break) {
    const size_t begin = position_;
    const char sign = rest().front();
    if (sign == '-' || sign == '+') {
      advance(1);
    }
    advance(mark.size());
    if (sign == '-') {
      advance(rest().size() - strip_left(rest()).size());
    } else if (sign != '+' && trims_line_break && rest().starts_with('\n')) {
      advance(1);
    }
    at_line_begin_ = position_ > begin && source_[position_ - 1] == '\n';
  }

  void skip_comment() {
    const int line = line_;
    const size_t end = source_.find("#}", position_);
    if (end == kNone) {
      fail_at(line, "a comment without an end, '#}}'");
    }
    // "{#-#}" has its sign at the front only.
    const bool has_sign = end > position_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
    advance(end - position_ - (has_sign ? 1 : 0));
    pass_end("#}", true);
  }

  // Consumes "  word  " and reports whether an end mark of a block tag follows.
  bool skip_bare_tag(std::string_view word, size_t& at) const {
    const std::string_view source = source_;
    const auto skip_space = [&] {
      at += source.substr(at).size() - strip_left(source.substr(at)).size();
    };
    skip_space();
    if (!source.substr(at).starts_with(word)) {
      return false;
    }
    at += word.size();
    skip_space();
    const std::string_view left = source.substr(at);
    return left.starts_with("%}") || left.starts_with("-%}") || left.starts_with("+%}");
  }

  // {% raw %} ... {% endraw %}: data as it stands. False where this is another tag.
  bool read_raw() {
    size_t at = position_;
    if (!skip_bare_tag("raw", at)) {
      return false;
    }
    const int line = line_;
    advance(at - position_);
    pass_end("%}", false);
    for (size_t begin = source_.find("{%", position_); begin != kNone;
         begin = source_.find("{%", begin + 2)) {
      const char sign = begin + 2 < source_.size() ? source_[begin + 2] : '\0';
      at = begin + (sign == '-' || sign == '+' ? 3 : 2);
      if (skip_bare_tag("endraw", at)) {
        const std::string_view data =
            std::string_view(source_).substr(position_, begin - position_);
        add_data(strip_before_tag(data, sign, true));
        advance(at - position_);
        pass_end("%}", true);
        return true;
      }
    }
    fail_at(line, "'raw' without 'endraw'");
  }

  void read_tag(Kind begin, Kind end, std::string_view mark) {
    const int line = line_;
    add(begin, "");
    std::string open;  // brackets: within them the end mark is none
    while (true) {
      advance(rest().size() - strip_left(rest()).size());
      if (rest().empty()) {
        fail_at(line, "a tag without an end, '{}'", mark);
      }
      const bool sign = rest().front() == '-' || (rest().front() == '+' && end == Kind::kBlockEnd);
      if (open.empty() && rest().substr(sign ? 1 : 0).starts_with(mark)) {
        add(end, "");
        pass_end(mark, end == Kind::kBlockEnd);
        return;
      }
      read_token(open);
    }
  }

  void read_token(std::string& open) {
    const char first = rest().front();
    if (begins_name(first)) {
      const std::string_view name = rest().substr(
          0,
          std::min(rest().size(), find_end([](char c) { return begins_name(c) || is_digit(c); })));
      if (name.size() > kMaxNameBytes) {
        fail_at(line_, "a name of {} bytes; at most {} are supported", name.size(), kMaxNameBytes);
      }
      add(Kind::kName, std::string(name));
      advance(name.size());
    } else if (is_digit(first)) {
      read_number();
    } else if (first == '\'' || first == '"') {
      read_string(first);
    } else {
      read_operator(open);
    }
  }

  template <class Belongs>
  size_t find_end(Belongs&& belongs) const {
    const std::string_view left = rest();
    return static_cast<size_t>(std::find_if_not(left.begin(), left.end(), belongs) - left.begin());
  }

  void read_number() {
    const auto is_number_part = [](char c) { return is_digit(c) || c == '_'; };
    const auto digits = [&](size_t from) {
      size_t at = from;
      while (at < rest().size() && is_number_part(rest()[at])) {
        ++at;
      }
      return at;
    };
    Kind kind = Kind::kInteger;
    size_t end = digits(0);
    const auto digit_at = [&](size_t at) { return at < rest().size() && is_digit(rest()[at]); };
    const bool after_dot = !tokens_.empty() && tokens_.back().is_operator(".");  // x.0.1
    if (!after_dot && end < rest().size() && rest()[end] == '.' && digit_at(end + 1)) {
      kind = Kind::kFloat;
      end = digits(end + 1);
    }
    if (!after_dot && end < rest().size() && (rest()[end] == 'e' || rest()[end] == 'E')) {
      const bool sign =
          end + 1 < rest().size() && (rest()[end + 1] == '+' || rest()[end + 1] == '-');
      if (digit_at(end + (sign ? 2 : 1))) {
        kind = Kind::kFloat;
        end = digits(end + (sign ? 2 : 1));
      }
    }
    std::string text(rest().substr(0, end));
    std::erase(text, '_');
    add(kind, std::move(text));
    advance(end);
  }

  void read_string(char quote) {
    size_t end = 1;
    while (end < rest().size() && rest()[end] != quote) {
      end += rest()[end] == '\\' ? 2 : 1;
    }
    if (end >= rest().size()) {
      fail_at(line_, "a string without an end, {}", quote);
    }
    add(Kind::kString, unescape_string(rest().substr(1, end - 1), line_));
    advance(end + 1);
  }

  void read_operator(std::string& open) {
    const auto symbol = std::find_if(kOperators.begin(), kOperators.end(), [&](auto candidate) {
      return rest().starts_with(candidate);
    });
    if (symbol == kOperators.end()) {
      fail_at(line_, "unexpected character '{:.4}'", printable(rest().front()));
    }
    if (*symbol == "(" || *symbol == "[" || *symbol == "{") {
      open += *symbol == "(" ? ')' : *symbol == "[" ? ']' : '}';
    } else if (*symbol == ")" || *symbol == "]" || *symbol == "}") {
      if (open.empty() || open.back() != symbol->front()) {
        fail_at(line_, "unexpected '{}'", *symbol);
      }
      open.pop_back();
    }
    add(Kind::kOperator, std::string(*symbol));
    advance(symbol->size());
  }

  std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  bool at_line_begin_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace adze::text::chat_template
