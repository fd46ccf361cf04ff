#pragma once
// What Unicode knows about characters and texts (utf8proc, Unicode 15).

#include <cstdint>
#include <string>
#include <string_view>

namespace adze::text {

enum class NormalForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// `text` must be well-formed UTF-8. A few characters that the reference does not take apart
// (reference_unicode.h) stay whole.
std::string normal_form(std::string_view text, NormalForm form);

bool is_white_space(uint32_t code_point);      // property White_Space
bool is_punctuation(uint32_t code_point);      // categories P*
bool is_mark(uint32_t code_point);             // categories M*
bool is_nonspacing_mark(uint32_t code_point);  // category Mn
bool is_other(uint32_t code_point);            // categories Cc, Cf, Co: controls, formats, private
bool is_word_character(uint32_t code_point);   // letters, marks, digits, connectors, joiners

// Appends what the character becomes in lower case; context does not matter.
void append_lowercase(std::string& text, uint32_t code_point);

// Bytes of the grapheme cluster (user-perceived character) at the front; `text` must not be empty.
size_t grapheme_length(std::string_view text);

}  // namespace adze::text
