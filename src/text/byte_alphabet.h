#pragma once
// GPT-2's printable alphabet: vocabulary files write each of the 256 byte values as one character,
// so that spaces and control bytes are visible ("Ġthe" is " the"). Printable Latin-1 characters
// stand for themselves; the other 68 values take U+0100 onwards, in order.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace adze::text {

// "Ġthe" -> " the"; nullopt where a character lies outside the alphabet.
std::optional<std::string> bytes_from_alphabet(std::string_view text);

std::string alphabet_from_bytes(std::string_view bytes);  // " the" -> "Ġthe"

// "<0x41>" -> 0x41, as vocabularies with tokens of kind kByte write it; nullopt for anything else.
std::optional<uint8_t> byte_named(std::string_view text);

}  // namespace adze::text
