#include "serve/text_mark.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace adze::serve {
namespace {

// U+FDD0 to U+FDEF: the last of three bytes tells them apart.
constexpr size_t kCharacter = 3;
constexpr std::string_view kLead = kFirstMark.substr(0, 2);
constexpr uint8_t kFirst = 0x90;
constexpr size_t kCharacters = 32;
// Each character leaves at most a 32nd of the places: six are enough for texts of a gigabyte.
constexpr size_t kLongest = 8 * kCharacter;

// Which of them the text begins with.
std::optional<size_t> character_at_front(std::string_view text) {
  if (text.size() < kCharacter || !text.starts_with(kLead)) {
    return std::nullopt;
  }
  const auto last = static_cast<uint8_t>(text[2]);
  return last >= kFirst && last < kFirst + kCharacters
             ? std::optional(static_cast<size_t>(last - kFirst))
             : std::nullopt;
}

}  // namespace

std::string absent_mark(std::span<const std::string_view> texts) {
  // What follows the mark, as far as it is there, wherever a text has it.
  std::vector<std::string_view> places;
  for (const std::string_view text : texts) {
    for (size_t at = text.find(kLead); at != text.npos; at = text.find(kLead, at + 1)) {
      places.push_back(text.substr(at));
    }
  }
  std::string mark;
  while (true) {
    std::array<size_t, kCharacters> counts{};
    for (const std::string_view place : places) {
      if (const auto character = character_at_front(place)) {
        ++counts[*character];
      }
    }
    const auto rarest = std::min_element(counts.begin(), counts.end());
    const auto next = static_cast<size_t>(rarest - counts.begin());
    mark += kLead;
    mark += static_cast<char>(kFirst + next);
    if (*rarest == 0) {
      return mark;
    }
    std::erase_if(places,
                  [&](std::string_view place) { return character_at_front(place) != next; });
    for (std::string_view& place : places) {
      place.remove_prefix(kCharacter);
    }
  }
}

bool is_mark(std::string_view mark) {
  if (mark.empty() || mark.size() > kLongest) {
    return false;
  }
  for (; !mark.empty(); mark.remove_prefix(kCharacter)) {
    if (!character_at_front(mark)) {
      return false;
    }
  }
  return true;
}

}  // namespace adze::serve
