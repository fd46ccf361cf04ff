#pragma once
// String literals of a template.

#include <string>
#include <string_view>

namespace adze::text::chat_template {

// The value of a string literal: escapes as in Python, unknown ones stand for themselves.
// Throws core::Error with the line for an escape that is cut off or no character.
std::string unescape_string(std::string_view literal, int line);

std::string printable(char character);  // for messages: itself, or its number

}  // namespace adze::text::chat_template
