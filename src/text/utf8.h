#pragma once
// One step over UTF-8 text, as the Unicode standard defines well-formed sequences (table 3-7).

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adze::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Step {
  enum class State : uint8_t { kCharacter, kInvalid, kIncomplete };

  State state;
  size_t length;        // kCharacter: its bytes; otherwise the maximal subpart, at least 1
  uint32_t code_point;  // kCharacter only
};

// What stands at the front of `bytes`, which must not be empty. kIncomplete: the bytes end within a
// sequence that further bytes could complete.
Utf8Step next_character(std::string_view bytes);

// Bytes of the longest well-formed front part.
size_t valid_prefix(std::string_view bytes);

void append_utf8(std::string& text, uint32_t code_point);  // code_point: at most 0x10FFFF

}  // namespace adze::text
