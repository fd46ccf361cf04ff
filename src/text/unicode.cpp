#include "text/unicode.h"

#include <cstdlib>
#include <memory>

#include <utf8proc.h>

#include "core/error.h"
#include "text/reference_unicode.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

utf8proc_category_t category_of(uint32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

utf8proc_option_t options_of(NormalForm form) {
  const int compose =
      form == NormalForm::kNfc || form == NormalForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  const int compatible =
      form == NormalForm::kNfkc || form == NormalForm::kNfkd ? UTF8PROC_COMPAT : 0;
  return static_cast<utf8proc_option_t>(compose | compatible | UTF8PROC_STABLE);
}

struct Free {
  void operator()(utf8proc_uint8_t* memory) const { std::free(memory); }
};

void append_mapped(std::string& result, std::string_view text, utf8proc_option_t options) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped,
                   options);
  const std::unique_ptr<utf8proc_uint8_t, Free> owner(mapped);
  if (length < 0) {
    throw core::error("tokenizer", "text: {}", utf8proc_errmsg(length));
  }
  result.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
}

// Characters that the reference does not take apart stay whole and stand between texts.
void append_normal_form(std::string& result, std::string_view text, utf8proc_option_t options) {
  size_t begin = 0;
  for (size_t position = 0; position < text.size();) {
    const Utf8Step step = next_character(text.substr(position));
    if (step.length >= 3 && has_no_reference_decomposition(step.code_point)) {
      append_mapped(result, text.substr(begin, position - begin), options);
      result.append(text.substr(position, step.length));
      begin = position + step.length;
    }
    position += step.length;
  }
  append_mapped(result, text.substr(begin), options);
}

}  // namespace

// Most text is in normal form already: only runs with characters that may change go through the
// library. A run begins one character early, since what follows may combine with it.
std::string normal_form(std::string_view text, NormalForm form) {
  // Below, characters neither change nor combine with what stands before them: U+0300 is the first
  // combining mark, U+00A0 the first character with a decomposition.
  const uint8_t first_lead = form == NormalForm::kNfc ? 0xCC : 0x80;
  std::string result;
  result.reserve(text.size() + text.size() / 16);
  const utf8proc_option_t options = options_of(form);
  const auto is_safe = [&](size_t position) {
    return static_cast<uint8_t>(text[position]) < first_lead;  // continuations of safe ones too
  };
  size_t position = 0;
  while (position < text.size()) {
    size_t end = position;
    while (end < text.size() && is_safe(end)) {
      ++end;
    }
    if (end == text.size()) {
      result.append(text.substr(position));
      break;
    }
    size_t begin = end;  // back over one safe character
    while (begin > position && (static_cast<uint8_t>(text[--begin]) & 0xC0) == 0x80) {
    }
    result.append(text.substr(position, begin - position));
    while (end < text.size()) {
      const bool continuation = (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80;
      if (!continuation && is_safe(end)) {
        break;
      }
      ++end;
    }
    append_normal_form(result, text.substr(begin, end - begin), options);
    position = end;
  }
  return result;
}

bool is_white_space(uint32_t code_point) {
  if (code_point < 0x80) {
    return code_point == ' ' || (code_point >= '\t' && code_point <= '\r');
  }
  const utf8proc_category_t category = category_of(code_point);
  return code_point == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

bool is_punctuation(uint32_t code_point) {
  const utf8proc_category_t category = category_of(code_point);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(uint32_t code_point) {
  const utf8proc_category_t category = category_of(code_point);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool is_nonspacing_mark(uint32_t code_point) {
  return category_of(code_point) == UTF8PROC_CATEGORY_MN;
}

bool is_other(uint32_t code_point) {
  const utf8proc_category_t category = category_of(code_point);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO;
}

bool is_word_character(uint32_t code_point) {
  const utf8proc_category_t category = category_of(code_point);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC || code_point == 0x200C || code_point == 0x200D;
}

void append_lowercase(std::string& text, uint32_t code_point) {
  if (code_point == 0x130) {  // the only character that becomes two: i and a dot above
    text += "i\xCC\x87";
    return;
  }
  append_utf8(text,
              static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point))));
}

size_t grapheme_length(std::string_view text) {
  utf8proc_int32_t state = 0;
  Utf8Step step = next_character(text);
  size_t length = step.length;
  while (length < text.size()) {
    const Utf8Step next = next_character(text.substr(length));
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(step.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point),
                                         &state)) {
      break;
    }
    length += next.length;
    step = next;
  }
  return length;
}

}  // namespace adze::text
