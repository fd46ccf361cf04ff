#include "text/byte_alphabet.h"

#include <array>

#include "text/utf8.h"

namespace adze::text {

namespace {

constexpr size_t kNumBytes = 256;
constexpr size_t kNumMoved = 68;  // 33 controls and space, delete to U+00A0 (34), soft hyphen
constexpr int16_t kNoByte = -1;

struct Alphabet {
  std::array<uint16_t, kNumBytes> character_of_byte{};
  std::array<int16_t, kNumBytes + kNumMoved> byte_of_character{};
};

constexpr bool stands_for_itself(size_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte_of_character.fill(kNoByte);
  size_t moved = 0;
  for (size_t byte = 0; byte < kNumBytes; ++byte) {
    const size_t character = stands_for_itself(byte) ? byte : kNumBytes + moved++;
    alphabet.character_of_byte[byte] = static_cast<uint16_t>(character);
    alphabet.byte_of_character[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_from_alphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = next_character(text);
    if (step.state != Utf8Step::State::kCharacter ||
        step.code_point >= kAlphabet.byte_of_character.size() ||
        kAlphabet.byte_of_character[step.code_point] == kNoByte) {
      return std::nullopt;
    }
    bytes += static_cast<char>(kAlphabet.byte_of_character[step.code_point]);
    text.remove_prefix(step.length);
  }
  return bytes;
}

std::string alphabet_from_bytes(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    append_utf8(text, kAlphabet.character_of_byte[static_cast<uint8_t>(byte)]);
  }
  return text;
}

std::optional<uint8_t> byte_named(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') {
    return std::nullopt;
  }
  const size_t high = kDigits.find(text[3]);
  const size_t low = kDigits.find(text[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) {
    return std::nullopt;
  }
  return static_cast<uint8_t>(high * 16 + low);
}

}  // namespace adze::text
