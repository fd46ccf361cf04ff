#include "formats/quote_untrusted.h"

#include <fmt/format.h>

namespace adze::formats {

std::string quote_untrusted(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  std::string shown = "\"";
  for (const char character : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte < 0x20 || byte >= 0x7F || byte == '"' || byte == '\\') {
      shown += fmt::format("\\x{:02x}", byte);
    } else {
      shown += character;
    }
  }
  shown += text.size() > kMaxShown ? "...\"" : "\"";
  return shown;
}

}  // namespace adze::formats
