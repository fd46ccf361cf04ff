#pragma once
// Marks for Tokenizer::protect(): a few noncharacters, which no text should have.

#include <span>
#include <string>
#include <string_view>

namespace adze::serve {

inline constexpr std::string_view kFirstMark = "\xEF\xB7\x90";  // U+FDD0

// Some that none of the texts contains: equal ones for equal texts, and short ones whatever the
// texts are.
std::string absent_mark(std::span<const std::string_view> texts);
// Whether absent_mark() may have made it.
bool is_mark(std::string_view mark);

}  // namespace adze::serve
