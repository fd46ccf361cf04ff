#pragma once

#include <string>
#include <string_view>

namespace adze::text {

// The text with `content` wherever `pattern` was, from left to right; the same text where the
// pattern is empty.
std::string replaced(std::string_view text, std::string_view pattern, std::string_view content);

}  // namespace adze::text
