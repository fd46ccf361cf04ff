#include "text/chat_template/literals.h"

#include <cstdint>
#include <optional>

#include "text/chat_template/runtime.h"
#include "text/utf8.h"

namespace adze::text::chat_template {

namespace {

std::optional<char> simple_escape(char letter) {
  constexpr std::string_view kLetters = "abfnrtv\\'\"";
  constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
  const size_t index = kLetters.find(letter);
  return index == std::string_view::npos ? std::nullopt : std::optional(kValues[index]);
}

std::optional<uint32_t> digit_value(char digit, uint32_t base) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const char lower = digit >= 'A' && digit <= 'F' ? static_cast<char>(digit - 'A' + 'a') : digit;
  const size_t value = kDigits.find(lower);
  return value < base ? std::optional(static_cast<uint32_t>(value)) : std::nullopt;
}

// Up to `count` digits at the front; returns how many there are.
size_t read_digits(std::string_view text, size_t count, uint32_t base, uint32_t& value) {
  value = 0;
  size_t length = 0;
  while (length < count && length < text.size()) {
    const auto digit = digit_value(text[length], base);
    if (!digit) {
      break;
    }
    value = value * base + *digit;
    ++length;
  }
  return length;
}

size_t hexadecimal_digits(char letter) {
  return letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
}

}  // namespace

std::string unescape_string(std::string_view literal, int line) {
  std::string text;
  while (!literal.empty()) {
    const size_t plain = std::min(literal.find('\\'), literal.size());
    text.append(literal.substr(0, plain));
    literal.remove_prefix(plain);
    if (literal.empty()) {
      break;
    }
    const char letter = literal[1];  // the lexer takes a backslash with what follows it
    const std::string_view after = literal.substr(2);
    uint32_t code_point = 0;
    if (const auto value = simple_escape(letter)) {
      text += *value;
      literal = after;
    } else if (letter == '\n') {  // a line that goes on
      literal = after;
    } else if (const size_t digits = hexadecimal_digits(letter); digits > 0) {
      if (read_digits(after, digits, 16, code_point) != digits || code_point > 0x10FFFF ||
          (code_point >= 0xD800 && code_point <= 0xDFFF)) {
        fail_at(line, "'\\{}' in a string is not followed by the number of a character", letter);
      }
      append_utf8(text, code_point);
      literal = after.substr(digits);
    } else if (const size_t length = read_digits(literal.substr(1), 3, 8, code_point); length > 0) {
      append_utf8(text, code_point);
      literal.remove_prefix(1 + length);
    } else {
      text += '\\';
      literal.remove_prefix(1);
    }
  }
  return text;
}

std::string printable(char character) {
  const auto byte = static_cast<uint8_t>(character);
  return byte >= 0x20 && byte < 0x7F ? std::string(1, character) : fmt::format("\\x{:02x}", byte);
}

}  // namespace adze::text::chat_template
