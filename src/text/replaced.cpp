#include "text/replaced.h"

namespace adze::text {

std::string replaced(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string result;
  size_t position = 0;
  if (!pattern.empty()) {
    result.reserve(text.size() + text.size() / 2);
    for (size_t found = text.find(pattern); found != std::string_view::npos;
         found = text.find(pattern, position)) {
      result.append(text.substr(position, found - position)).append(content);
      position = found + pattern.size();
    }
  }
  result.append(text.substr(position));
  return result;
}

}  // namespace adze::text
