#include <array>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/represent.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

template <std::string (*convert)(std::string_view)>
Value convert_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "filter", arguments);
  const std::string text = printed(runtime, input);
  runtime.step_characters(text.size());
  return runtime.text(convert(text));
}

std::string title_words(std::string_view text) {
  return title_case(text, "-({[<");
}

std::string escape_markup(std::string_view text) {
  std::string escaped;
  for (const char character : text) {
    switch (character) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      case '"':
        escaped += "&#34;";
        break;
      default:
        escaped += character;
    }
  }
  return escaped;
}

std::string unchanged(std::string_view text) {
  return std::string(text);
}

Value trim(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "trim", arguments, {"chars"});
  const std::string text = printed(runtime, input);
  step_strip(runtime, text, bound.text(0));
  return runtime.text(std::string(strip(text, bound.text(0))));
}

Value replace(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "replace", arguments, {"old", "new", "count"});
  return replace_text(runtime,
                      printed(runtime, input),
                      printed(runtime, bound.require(0)),
                      printed(runtime, bound.require(1)),
                      bound.integer(2).value_or(-1));
}

std::string indentation(Runtime& runtime, const Value* width) {
  constexpr int64_t kMaxWidth = 1000;
  if (width != nullptr && width->is<Text>()) {
    return std::string(width->text());
  }
  const int64_t spaces = width == nullptr ? 4 : width->is_integral() ? width->integer() : -1;
  if (spaces < 0 || spaces > kMaxWidth) {
    runtime.fail("indent: expected a text or 0 to {} spaces", kMaxWidth);
  }
  return std::string(static_cast<size_t>(spaces), ' ');
}

Value indent(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "indent", arguments, {"width", "first", "blank"});
  const std::string space = indentation(runtime, bound.find(0));
  const bool blank = bound.truth(2, false);
  if (input.is_undefined()) {
    runtime.fail("indent: the value is undefined");
  }
  std::string text = printed(runtime, input);
  text += '\n';  // so that a last empty line counts
  runtime.step_characters(text.size());
  const auto lines = split_lines(text, false);
  TextBuilder builder(runtime);
  for (size_t index = 0; index < lines.size(); ++index) {
    builder.append(index > 0 ? "\n" : "");
    const bool indented = index == 0 ? bound.truth(1, false) : blank || !lines[index].empty();
    builder.append(indented ? space : "");
    builder.append(lines[index]);
  }
  return builder.finish();
}

JsonStyle json_style(Runtime& runtime, const BoundArguments& bound) {
  constexpr int64_t kMaxIndent = 100;
  JsonStyle style;
  style.ensure_ascii = bound.truth(0, false);
  style.indent = bound.integer(1);
  style.sort_keys = bound.truth(3, false);
  if (style.indent) {
    if (*style.indent < 0 || *style.indent > kMaxIndent) {
      runtime.fail("tojson: expected indent 0 to {}, got {}", kMaxIndent, *style.indent);
    }
    style.item_separator.assign(1, ',');
  }
  const Value* separators = bound.find(2);
  if (separators != nullptr && !separators->is<None>()) {
    const List& pair = *runtime.iterate(*separators);
    if (pair.items.size() != 2 || !pair.items[0].is<Text>() || !pair.items[1].is<Text>()) {
      runtime.fail("tojson: separators must be two texts");
    }
    style.item_separator = pair.items[0].text();
    style.key_separator = pair.items[1].text();
  }
  return style;
}

Value to_json(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(
      runtime, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  const JsonStyle style = json_style(runtime, bound);
  TextBuilder builder(runtime);
  append_json(builder, runtime, input, style);
  return builder.finish();
}

struct Row {
  std::string_view name;
  Filter filter;
};

constexpr std::array kFilters{
    Row{"capitalize", convert_filter<capitalized>},
    Row{"e", convert_filter<escape_markup>},
    Row{"escape", convert_filter<escape_markup>},
    Row{"indent", indent},
    Row{"lower", convert_filter<lower_case>},
    Row{"replace", replace},
    Row{"safe", convert_filter<unchanged>},
    Row{"string", convert_filter<unchanged>},
    Row{"title", convert_filter<title_words>},
    Row{"tojson", to_json},
    Row{"trim", trim},
    Row{"upper", convert_filter<upper_case>},
};

}  // namespace

Filter find_text_filter(std::string_view name) {
  const Row* row = find_named(kFilters, name);
  return row == nullptr ? nullptr : row->filter;
}

void step_strip(Runtime& runtime,
                std::string_view text,
                std::optional<std::string_view> characters) {
  runtime.step_characters(text.size());
  runtime.step_search(text.size(), characters.value_or("").size());
}

Value replace_text(Runtime& runtime,
                   std::string_view text,
                   std::string_view old,
                   std::string_view replacement,
                   int64_t limit) {
  TextBuilder builder(runtime);
  runtime.step_search(text.size(), old.size());
  if (old.empty()) {  // before each character and at the end
    while (limit != 0) {
      runtime.step();
      builder.append(replacement);
      --limit;
      if (text.empty()) {
        break;
      }
      const size_t length = byte_offset(text, 1);
      builder.append(text.substr(0, length));
      text.remove_prefix(length);
    }
  }
  while (limit != 0 && !old.empty()) {
    const size_t found = text.find(old);
    if (found == std::string_view::npos) {
      break;
    }
    runtime.step();
    builder.append(text.substr(0, found));
    builder.append(replacement);
    text.remove_prefix(found + old.size());
    --limit;
  }
  builder.append(text);
  return builder.finish();
}

}  // namespace adze::text::chat_template
