#pragma once
// Values as text: as Python prints them, and as JSON.

#include <optional>
#include <string>
#include <string_view>

#include "text/chat_template/runtime.h"
#include "text/chat_template/value.h"

namespace adze::text::chat_template {

std::string represent_number(double number);  // shortest text that reads back, as Python's repr

// What {{ value }} prints: a text as it is, "None", "True", lists and mappings as Python's repr.
void append_printed(TextBuilder& builder, Runtime& runtime, const Value& value);
std::string printed(Runtime& runtime, const Value& value);

struct JsonStyle {
  std::optional<int64_t> indent;  // spaces a level; none: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};
// As Python's json.dumps; fails for what JSON cannot say.
void append_json(TextBuilder& builder,
                 Runtime& runtime,
                 const Value& value,
                 const JsonStyle& style);

}  // namespace adze::text::chat_template
