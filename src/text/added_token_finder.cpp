#include "text/added_token_finder.h"

#include <utility>

#include "text/unicode.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

SpecialTokenFinder make_finder(const std::vector<AddedTokenFinder::Entry>& entries) {
  std::vector<std::pair<std::string_view, int32_t>> texts;
  for (size_t index = 0; index < entries.size(); ++index) {
    texts.emplace_back(entries[index].text, static_cast<int32_t>(index));
  }
  return SpecialTokenFinder(std::move(texts));
}

// Where the character before `end` begins.
size_t character_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  return begin;
}

bool is_kind(std::string_view text, bool (*kind)(uint32_t)) {
  const Utf8Step step = next_character(text);
  return step.state == Utf8Step::State::kCharacter && kind(step.code_point);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<Entry> entries)
    : entries_(std::move(entries)), finder_(make_finder(entries_)) {}

bool AddedTokenFinder::stands_alone(std::string_view text, size_t begin, size_t end) {
  const bool word_before =
      begin > 0 && is_kind(text.substr(character_before(text, begin)), is_word_character);
  const bool word_behind = end < text.size() && is_kind(text.substr(end), is_word_character);
  return !word_before && !word_behind;
}

size_t AddedTokenFinder::strip_left(std::string_view text, size_t begin) {
  while (begin > 0) {
    const size_t before = character_before(text, begin);
    if (!is_kind(text.substr(before), is_white_space)) {
      break;
    }
    begin = before;
  }
  return begin;
}

size_t AddedTokenFinder::strip_right(std::string_view text, size_t end) {
  while (end < text.size() && is_kind(text.substr(end), is_white_space)) {
    end += next_character(text.substr(end)).length;
  }
  return end;
}

}  // namespace adze::text
