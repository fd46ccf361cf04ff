#include <array>

#include "core/error.h"
#include "data/tokenizer_json.h"

namespace adze::data {

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string base64_encoded(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t begin = 0; begin < bytes.size(); begin += 3) {
    uint32_t bits = 0;
    for (size_t index = 0; index < 3; ++index) {
      const bool there = begin + index < bytes.size();
      bits = (bits << 8) | (there ? static_cast<uint8_t>(bytes[begin + index]) : 0U);
    }
    for (size_t index = 0; index < 4; ++index) {
      const bool there = begin + index <= bytes.size();
      text += there ? kAlphabet[(bits >> (18 - 6 * index)) & 63] : '=';
    }
  }
  return text;
}

std::string base64_decoded(std::string_view text, std::string_view place) {
  std::array<uint8_t, 256> values{};
  values.fill(0xFF);
  for (size_t index = 0; index < kAlphabet.size(); ++index) {
    values[static_cast<uint8_t>(kAlphabet[index])] = static_cast<uint8_t>(index);
  }
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  if (text.size() % 4 != 0) {
    throw core::error("tokenizer", "{}: expected base64, got {} characters", place, text.size());
  }
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  for (size_t index = 0; index < text.size(); ++index) {
    const bool padded = index >= text.size() - padding;
    const uint8_t value = padded ? 0 : values[static_cast<uint8_t>(text[index])];
    if (value == 0xFF) {
      throw core::error("tokenizer", "{}: expected base64, got another character", place);
    }
    bits = (bits << 6) | value;
    if (index % 4 == 3) {
      bytes.append(
          {static_cast<char>(bits >> 16), static_cast<char>(bits >> 8), static_cast<char>(bits)});
      bits = 0;
    }
  }
  bytes.resize(bytes.size() - padding);
  return bytes;
}

}  // namespace adze::data
