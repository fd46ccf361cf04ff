#include "text/chat_template/text_operations.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/utf8.h"

namespace adze::text::chat_template {

namespace {

// The last character: continuation bytes are passed over, three of them at most.
Utf8Step last_character(std::string_view text) {
  for (size_t length = 2; length <= std::min<size_t>(4, text.size()); ++length) {
    const Utf8Step step = next_character(text.substr(text.size() - length));
    if (step.state == Utf8Step::State::kCharacter && step.length == length) {
      return step;
    }
  }
  return next_character(text.substr(text.size() - 1));
}

bool is_stripped(const Utf8Step& step,
                 std::string_view character,
                 std::optional<std::string_view> characters) {
  if (characters) {
    return characters->find(character) != std::string_view::npos;
  }
  return step.state == Utf8Step::State::kCharacter && is_white_space(step.code_point);
}

constexpr uint32_t kGreekSmallFinalSigma = 0x3C2;

bool between(uint32_t value, uint32_t low, uint32_t high) {
  return value >= low && value <= high;
}

// Latin Extended-A alternates capital and small, the capital even in some stretches, odd in others.
bool in_even_pairs(uint32_t value) {
  return (between(value, 0x100, 0x137) && value != 0x130 && value != 0x131) ||
         between(value, 0x14A, 0x177);
}

bool in_odd_pairs(uint32_t value) {
  return between(value, 0x139, 0x148) || between(value, 0x179, 0x17E);
}

// Greek letters with an accent, capital and small.
struct Accented {
  uint32_t capital;
  uint32_t small;
};
constexpr std::array kAccentedGreek{Accented{0x386, 0x3AC},
                                    Accented{0x388, 0x3AD},
                                    Accented{0x389, 0x3AE},
                                    Accented{0x38A, 0x3AF},
                                    Accented{0x38C, 0x3CC},
                                    Accented{0x38E, 0x3CD},
                                    Accented{0x38F, 0x3CE}};

uint32_t to_lower(uint32_t value) {
  for (const Accented& letter : kAccentedGreek) {
    if (letter.capital == value) {
      return letter.small;
    }
  }
  if (between(value, 'A', 'Z') || (between(value, 0xC0, 0xDE) && value != 0xD7) ||
      (between(value, 0x391, 0x3A9) && value != 0x3A2) || between(value, 0x410, 0x42F)) {
    return value + 32;
  }
  if (between(value, 0x400, 0x40F)) {
    return value + 80;
  }
  if ((in_even_pairs(value) && value % 2 == 0) || (in_odd_pairs(value) && value % 2 == 1)) {
    return value + 1;
  }
  return value;
}

uint32_t to_upper(uint32_t value) {
  for (const Accented& letter : kAccentedGreek) {
    if (letter.small == value) {
      return letter.capital;
    }
  }
  if (value == kGreekSmallFinalSigma) {
    return 0x3A3;
  }
  if (between(value, 'a', 'z') || (between(value, 0xE0, 0xFE) && value != 0xF7) ||
      between(value, 0x3B1, 0x3C9) || between(value, 0x430, 0x44F)) {
    return value - 32;
  }
  if (between(value, 0x450, 0x45F)) {
    return value - 80;
  }
  if ((in_even_pairs(value) && value % 2 == 1) || (in_odd_pairs(value) && value % 2 == 0)) {
    return value - 1;
  }
  return value;
}

bool is_letter(uint32_t value) {
  return to_lower(value) != value || to_upper(value) != value || value == 0xDF;
}

template <class Convert>
std::string convert(std::string_view text, Convert&& convert_one) {
  std::string converted;
  converted.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = next_character(text);
    if (step.state == Utf8Step::State::kCharacter) {
      convert_one(converted, step.code_point);
    } else {
      converted.append(text.substr(0, step.length));
    }
    text.remove_prefix(step.length);
  }
  return converted;
}

void append_upper(std::string& text, uint32_t code_point) {
  if (code_point == 0xDF) {  // the one letter here that becomes two
    text += "SS";
  } else {
    append_utf8(text, to_upper(code_point));
  }
}

// Offset of the first white space, or of the first other character.
size_t find_space(std::string_view text, bool space) {
  size_t position = 0;
  while (position < text.size()) {
    const Utf8Step step = next_character(text.substr(position));
    if (is_stripped(step, {}, std::nullopt) == space) {
      break;
    }
    position += step.length;
  }
  return position;
}

size_t find_last_space(std::string_view text) {  // where the text after the last space begins
  size_t position = text.size();
  while (position > 0) {
    const Utf8Step step = last_character(text.substr(0, position));
    if (is_stripped(step, {}, std::nullopt)) {
      break;
    }
    position -= step.length;
  }
  return position;
}

}  // namespace

bool is_white_space(uint32_t code_point) {
  return between(code_point, 0x09, 0x0D) || between(code_point, 0x1C, 0x20) || code_point == 0x85 ||
         code_point == 0xA0 || code_point == 0x1680 || between(code_point, 0x2000, 0x200A) ||
         code_point == 0x2028 || code_point == 0x2029 || code_point == 0x202F ||
         code_point == 0x205F || code_point == 0x3000;
}

std::string_view strip_left(std::string_view text, std::optional<std::string_view> characters) {
  while (!text.empty()) {
    const Utf8Step step = next_character(text);
    if (!is_stripped(step, text.substr(0, step.length), characters)) {
      break;
    }
    text.remove_prefix(step.length);
  }
  return text;
}

std::string_view strip_right(std::string_view text, std::optional<std::string_view> characters) {
  while (!text.empty()) {
    const Utf8Step step = last_character(text);
    if (!is_stripped(step, text.substr(text.size() - step.length), characters)) {
      break;
    }
    text.remove_suffix(step.length);
  }
  return text;
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (; !text.empty(); ++count) {
    text.remove_prefix(next_character(text).length);
  }
  return count;
}

size_t byte_offset(std::string_view text, int64_t characters) {
  size_t offset = 0;
  while (characters > 0 && offset < text.size()) {
    offset += next_character(text.substr(offset)).length;
    --characters;
  }
  return offset;
}

std::string upper_case(std::string_view text) {
  return convert(text, append_upper);
}

std::string lower_case(std::string_view text) {
  return convert(text, [](std::string& result, uint32_t code_point) {
    append_utf8(result, to_lower(code_point));
  });
}

std::string capitalized(std::string_view text) {
  bool first = true;
  return convert(text, [&first](std::string& result, uint32_t code_point) {
    if (std::exchange(first, false)) {
      append_upper(result, code_point);
    } else {
      append_utf8(result, to_lower(code_point));
    }
  });
}

std::string title_case(std::string_view text, std::string_view separators) {
  bool at_begin = true;
  return convert(text, [&](std::string& result, uint32_t code_point) {
    if (at_begin) {
      append_upper(result, code_point);
    } else {
      append_utf8(result, to_lower(code_point));
    }
    at_begin = separators.empty()
                   ? !is_letter(code_point)
                   : is_white_space(code_point) ||
                         (code_point < 0x80 &&
                          separators.find(static_cast<char>(code_point)) != std::string_view::npos);
  });
}

std::vector<std::string_view> split_text(std::string_view text,
                                         std::string_view separator,
                                         int64_t limit) {
  std::vector<std::string_view> parts;
  const bool spaces = separator.empty();
  if (spaces) {
    text = strip_left(text);
  }
  while (!(spaces && text.empty())) {
    const size_t end = limit == 0 ? std::string_view::npos
                       : spaces   ? find_space(text, true)
                                  : text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos || (spaces && end == text.size())) {
      break;
    }
    text.remove_prefix(spaces ? end + find_space(text.substr(end), false) : end + separator.size());
    --limit;
  }
  return parts;
}

std::vector<std::string_view> split_text_from_right(std::string_view text,
                                                    std::string_view separator,
                                                    int64_t limit) {
  if (limit < 0) {
    return split_text(text, separator, limit);
  }
  std::vector<std::string_view> parts;
  const bool spaces = separator.empty();
  if (spaces) {
    text = strip_right(text);
  }
  while (!(spaces && text.empty())) {
    const size_t cut = spaces ? find_last_space(text) : text.rfind(separator);
    if (limit == 0 || cut == std::string_view::npos || (spaces && cut == 0)) {
      parts.push_back(text);
      break;
    }
    parts.push_back(text.substr(spaces ? cut : cut + separator.size()));
    text = spaces ? strip_right(text.substr(0, cut)) : text.substr(0, cut);
    --limit;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_breaks) {
  std::vector<std::string_view> lines;
  const auto is_break = [](uint32_t value) {
    return between(value, 0x0A, 0x0D) || between(value, 0x1C, 0x1E) || value == 0x85 ||
           value == 0x2028 || value == 0x2029;
  };
  size_t begin = 0;
  size_t position = 0;
  while (position < text.size()) {
    const Utf8Step step = next_character(text.substr(position));
    const size_t end = position;
    position += step.length;
    if (step.state != Utf8Step::State::kCharacter || !is_break(step.code_point)) {
      continue;
    }
    if (text.substr(end).starts_with("\r\n")) {
      ++position;
    }
    lines.push_back(text.substr(begin, (keep_breaks ? position : end) - begin));
    begin = position;
  }
  if (begin < text.size()) {
    lines.push_back(text.substr(begin));
  }
  return lines;
}

}  // namespace adze::text::chat_template
