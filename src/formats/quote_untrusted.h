#pragma once

#include <string>
#include <string_view>

namespace adze::formats {

// A stranger's text as it may stand in a one-line message: quoted, bytes other than printable ASCII
// escaped, cut after 80 bytes.
std::string quote_untrusted(std::string_view text);

}  // namespace adze::formats
