#pragma once
// Text within HTML and SVG.

#include <string>
#include <string_view>

namespace adze::core {

// For content and for values in double quotes: & < > " become entities.
std::string escape_markup(std::string_view text);

}  // namespace adze::core
