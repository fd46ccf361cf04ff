#pragma once

#include <string>
#include <string_view>

namespace adze::text {

// A stranger's text as it may stand in a one-line message: bytes other than printable ASCII
// escaped, cut after `most` bytes.
std::string printable(std::string_view text, size_t most = 80);

}  // namespace adze::text
