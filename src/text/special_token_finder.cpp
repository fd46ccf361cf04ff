#include "text/special_token_finder.h"

#include <algorithm>

namespace adze::text {

SpecialTokenFinder::SpecialTokenFinder(std::vector<std::pair<std::string_view, int32_t>> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const auto& token) { return token.first.empty(); });
  std::sort(tokens_.begin(), tokens_.end());
  for (const auto& token : tokens_) {
    first_bytes_.set(static_cast<uint8_t>(token.first.front()));
  }
}

std::optional<SpecialTokenFinder::Found> SpecialTokenFinder::find(std::string_view text,
                                                                  size_t start) const {
  if (tokens_.empty()) {
    return std::nullopt;
  }
  for (size_t begin = start; begin < text.size(); ++begin) {
    if (first_bytes_.test(static_cast<uint8_t>(text[begin]))) {
      if (const auto found = longest_at(text, begin)) {
        return found;
      }
    }
  }
  return std::nullopt;
}

// Narrows the sorted tokens to those that agree with the text, byte by byte. The ones that end
// within the agreement stand at the front of the range, since they are prefixes of the others.
std::optional<SpecialTokenFinder::Found> SpecialTokenFinder::longest_at(std::string_view text,
                                                                        size_t begin) const {
  std::optional<Found> best;
  auto low = tokens_.begin();
  auto high = tokens_.end();
  for (size_t length = 0; begin + length < text.size() && low != high; ++length) {
    const auto wanted = static_cast<uint8_t>(text[begin + length]);
    const auto byte = [length](const auto& token) {
      return static_cast<uint8_t>(token.first[length]);
    };
    low = std::lower_bound(
        low, high, wanted, [&](const auto& token, uint8_t value) { return byte(token) < value; });
    high = std::upper_bound(
        low, high, wanted, [&](uint8_t value, const auto& token) { return value < byte(token); });
    while (low != high && low->first.size() == length + 1) {
      if (!best || best->length != length + 1) {  // of equal texts the first id counts
        best = Found{begin, length + 1, low->second};
      }
      ++low;
    }
  }
  return best;
}

}  // namespace adze::text
