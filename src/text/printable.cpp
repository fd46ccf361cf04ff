#include "text/printable.h"

#include <fmt/format.h>

namespace adze::text {

std::string printable(std::string_view text, size_t most) {
  std::string shown;
  for (const char character : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte < 0x20 || byte >= 0x7F) {
      shown += fmt::format("\\x{:02x}", byte);
    } else {
      shown += character;
    }
  }
  return text.size() > most ? shown + "..." : shown;
}

}  // namespace adze::text
