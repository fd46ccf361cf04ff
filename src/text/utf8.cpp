#include "text/utf8.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace adze::text {

namespace {

uint8_t byte_at(std::string_view bytes, size_t index) {
  return static_cast<uint8_t>(bytes[index]);
}

// What a lead byte promises: the length of its sequence and the legal range of the second byte,
// which is where overlong forms, surrogates and values above U+10FFFF are told apart.
struct Lead {
  size_t length;  // 0: cannot begin a sequence
  uint8_t second_low;
  uint8_t second_high;
};

Lead classify(uint8_t lead) {
  if (lead < 0x80) {
    return {1, 0, 0};
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return {2, 0x80, 0xBF};
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    return {3,
            static_cast<uint8_t>(lead == 0xE0 ? 0xA0 : 0x80),
            static_cast<uint8_t>(lead == 0xED ? 0x9F : 0xBF)};
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    return {4,
            static_cast<uint8_t>(lead == 0xF0 ? 0x90 : 0x80),
            static_cast<uint8_t>(lead == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0, 0, 0};
}

// Bytes at the front that are ASCII, eight at a time.
size_t ascii_prefix(std::string_view bytes) {
  size_t position = 0;
  while (position + sizeof(uint64_t) <= bytes.size()) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + position, sizeof(word));
    if ((word & 0x8080808080808080U) != 0) {
      break;
    }
    position += sizeof(word);
  }
  while (position < bytes.size() && byte_at(bytes, position) < 0x80) {
    ++position;
  }
  return position;
}

}  // namespace

Utf8Step next_character(std::string_view bytes) {
  using State = Utf8Step::State;
  const uint8_t first = byte_at(bytes, 0);
  const Lead lead = classify(first);
  if (lead.length == 0) {
    return {State::kInvalid, 1, 0};
  }
  if (lead.length == 1) {
    return {State::kCharacter, 1, first};
  }
  uint32_t code_point = first & (0x7FU >> lead.length);
  for (size_t index = 1; index < lead.length; ++index) {
    if (index == bytes.size()) {
      return {State::kIncomplete, index, 0};
    }
    const uint8_t byte = byte_at(bytes, index);
    const uint8_t low = index == 1 ? lead.second_low : uint8_t{0x80};
    const uint8_t high = index == 1 ? lead.second_high : uint8_t{0xBF};
    if (byte < low || byte > high) {
      return {State::kInvalid, index, 0};
    }
    code_point = (code_point << 6) | (byte & 0x3FU);
  }
  return {State::kCharacter, lead.length, code_point};
}

size_t valid_prefix(std::string_view bytes) {
  size_t position = 0;
  while (true) {
    position += ascii_prefix(bytes.substr(position));
    if (position == bytes.size()) {
      return position;
    }
    const Utf8Step step = next_character(bytes.substr(position));
    if (step.state != Utf8Step::State::kCharacter) {
      return position;
    }
    position += step.length;
  }
}

void append_utf8(std::string& text, uint32_t code_point) {
  std::array<char, 4> bytes{};
  size_t length = 0;
  const auto put = [&](uint32_t value) { bytes[length++] = static_cast<char>(value); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
  text.append(bytes.data(), length);
}

}  // namespace adze::text
