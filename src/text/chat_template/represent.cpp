#include "text/chat_template/represent.h"

#include <algorithm>
#include <cmath>

#include "text/utf8.h"

namespace adze::text::chat_template {

namespace {

// Characters that Python's repr writes as numbers: controls, format characters, separators other
// than the space, private use. A subset of Unicode's list: unassigned characters print as they are.
bool is_printable(uint32_t value) {
  const auto between = [value](uint32_t low, uint32_t high) {
    return value >= low && value <= high;
  };
  return !(value < 0x20 || between(0x7F, 0xA0) || value == 0xAD || value == 0x61C ||
           value == 0x1680 || value == 0x180E || between(0x2000, 0x200F) ||
           between(0x2028, 0x202F) || between(0x205F, 0x206F) || value == 0x3000 ||
           between(0xE000, 0xF8FF) || value == 0xFEFF || between(0xFFF0, 0xFFFB) ||
           value >= 0xE0000);
}

void append_escaped(std::string& text, uint32_t value) {
  if (value < 0x100) {
    text += fmt::format("\\x{:02x}", value);
  } else if (value < 0x10000) {
    text += fmt::format("\\u{:04x}", value);
  } else {
    text += fmt::format("\\U{:08x}", value);
  }
}

void append_quoted(TextBuilder& builder, std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string quoted(1, quote);
  while (!text.empty()) {
    const Utf8Step step = next_character(text);
    const uint32_t value = step.code_point;
    if (step.state != Utf8Step::State::kCharacter) {
      quoted.append(kReplacementCharacter);
    } else if (value == static_cast<uint32_t>(quote) || value == '\\') {
      quoted += '\\';
      quoted += static_cast<char>(value);
    } else if (value == '\n' || value == '\r' || value == '\t') {
      quoted += value == '\n' ? "\\n" : value == '\r' ? "\\r" : "\\t";
    } else if (is_printable(value)) {
      quoted.append(text.substr(0, step.length));
    } else {
      append_escaped(quoted, value);
    }
    text.remove_prefix(step.length);
  }
  builder.append(quoted += quote);
}

class PythonWriter {
 public:
  PythonWriter(TextBuilder& builder, Runtime& runtime) : builder_(builder), runtime_(runtime) {}

  void write(const Value& value, int depth) {
    runtime_.step();
    if (depth > kMaxValueDepth) {
      runtime_.fail("a value nested deeper than {} levels", kMaxValueDepth);
    }
    if (value.is<Text>()) {
      runtime_.step_characters(value.text().size());
      append_quoted(builder_, value.text());
    } else if (const auto* list = value.get<List*>()) {
      write_list(**list, depth);
    } else if (const auto* mapping = value.get<Mapping*>()) {
      write_mapping(**mapping, depth);
    } else {
      write_scalar(value);
    }
  }

  void write_scalar(const Value& value) {
    if (value.is<None>()) {
      builder_.append("None");
    } else if (const bool* truth = value.get<bool>()) {
      builder_.append(*truth ? "True" : "False");
    } else if (const int64_t* integer = value.get<int64_t>()) {
      builder_.append(std::to_string(*integer));
    } else if (const double* number = value.get<double>()) {
      builder_.append(represent_number(*number));
    } else if (value.is_undefined()) {
      builder_.append("Undefined");
    } else {
      builder_.append(value.is<Loop*>() ? "<loop>" : "<function>");
    }
  }

 private:
  void write_list(const List& list, int depth) {
    builder_.append(list.tuple ? "(" : "[");
    for (size_t index = 0; index < list.items.size(); ++index) {
      builder_.append(index > 0 ? ", " : "");
      write(list.items[index], depth + 1);
    }
    builder_.append(!list.tuple ? "]" : list.items.size() == 1 ? ",)" : ")");
  }

  void write_mapping(const Mapping& mapping, int depth) {
    builder_.append(mapping.is_namespace ? "<Namespace {" : "{");
    for (size_t index = 0; index < mapping.entries.size(); ++index) {
      builder_.append(index > 0 ? ", " : "");
      write(mapping.entries[index].first, depth + 1);
      builder_.append(": ");
      write(mapping.entries[index].second, depth + 1);
    }
    builder_.append(mapping.is_namespace ? "}>" : "}");
  }

  TextBuilder& builder_;
  Runtime& runtime_;
};

class JsonWriter {
 public:
  JsonWriter(TextBuilder& builder, Runtime& runtime, const JsonStyle& style)
      : builder_(builder), runtime_(runtime), style_(style) {}

  void write(const Value& value, int depth) {
    runtime_.step();
    if (depth > kMaxValueDepth) {
      runtime_.fail("tojson: a value nested deeper than {} levels", kMaxValueDepth);
    }
    if (value.is<Text>()) {
      write_text(value.text());
    } else if (const auto* list = value.get<List*>()) {
      write_list(**list, depth);
    } else if (value.is_mapping()) {
      write_mapping(**value.get<Mapping*>(), depth);
    } else {
      builder_.append(scalar(value));
    }
  }

 private:
  std::string scalar(const Value& value) const {
    if (value.is<None>()) {
      return "null";
    }
    if (const bool* truth = value.get<bool>()) {
      return *truth ? "true" : "false";
    }
    if (const int64_t* integer = value.get<int64_t>()) {
      return std::to_string(*integer);
    }
    const double* number = value.get<double>();
    if (number == nullptr) {
      runtime_.fail("tojson: a value of type '{}' has no JSON form", value.type_name());
    }
    if (std::isnan(*number)) {
      return "NaN";
    }
    if (std::isinf(*number)) {
      return *number > 0 ? "Infinity" : "-Infinity";
    }
    return represent_number(*number);
  }

  void write_text(std::string_view text) {
    runtime_.step_characters(text.size());
    std::string quoted = "\"";
    while (!text.empty()) {
      const Utf8Step step = next_character(text);
      if (step.state != Utf8Step::State::kCharacter) {
        quoted.append(kReplacementCharacter);
      } else {
        append_character(quoted, step.code_point, text.substr(0, step.length));
      }
      text.remove_prefix(step.length);
    }
    builder_.append(quoted += '"');
  }

  void append_character(std::string& quoted, uint32_t value, std::string_view bytes) const {
    constexpr std::string_view kShort = "\"\\\b\f\n\r\t";
    constexpr std::string_view kLetters = "\"\\bfnrt";
    const size_t index = value < 0x80 ? kShort.find(static_cast<char>(value)) : kShort.npos;
    if (index != kShort.npos) {
      quoted += '\\';
      quoted += kLetters[index];
    } else if (value < 0x20 || (style_.ensure_ascii && value >= 0x7F && value < 0x10000)) {
      quoted += value == 0x7F ? std::string(bytes) : fmt::format("\\u{:04x}", value);
    } else if (style_.ensure_ascii && value >= 0x10000) {
      const uint32_t offset = value - 0x10000;
      quoted +=
          fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (offset >> 10), 0xDC00 + (offset & 0x3FF));
    } else {
      quoted.append(bytes);
    }
  }

  void break_line(int depth) {
    if (style_.indent) {
      builder_.append("\n");
      builder_.append(static_cast<size_t>(*style_.indent) * static_cast<size_t>(depth), ' ');
    }
  }

  void write_list(const List& list, int depth) {
    builder_.append("[");
    for (size_t index = 0; index < list.items.size(); ++index) {
      builder_.append(index > 0 ? style_.item_separator : "");
      break_line(depth + 1);
      write(list.items[index], depth + 1);
    }
    if (!list.items.empty()) {
      break_line(depth);
    }
    builder_.append("]");
  }

  void write_mapping(const Mapping& mapping, int depth) {
    std::vector<const std::pair<Value, Value>*> entries;
    entries.reserve(mapping.entries.size());
    for (const auto& entry : mapping.entries) {
      entries.push_back(&entry);
    }
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* left, const auto* right) {
        return key_text(left->first) < key_text(right->first);
      });
    }
    builder_.append("{");
    for (size_t index = 0; index < entries.size(); ++index) {
      builder_.append(index > 0 ? style_.item_separator : "");
      break_line(depth + 1);
      write_text(key_text(entries[index]->first));
      builder_.append(style_.key_separator);
      write(entries[index]->second, depth + 1);
    }
    if (!entries.empty()) {
      break_line(depth);
    }
    builder_.append("}");
  }

  std::string key_text(const Value& key) const {
    return key.is<Text>() ? std::string(key.text()) : scalar(key);
  }

  TextBuilder& builder_;
  Runtime& runtime_;
  const JsonStyle& style_;
};

}  // namespace

std::string represent_number(double number) {
  if (std::isnan(number)) {
    return "nan";
  }
  std::string text = fmt::format("{}", number);
  if (text.find_first_of(".en") == std::string::npos) {  // an integer; "inf" has an n
    text += ".0";
  }
  return text;
}

void append_printed(TextBuilder& builder, Runtime& runtime, const Value& value) {
  if (value.is<Text>()) {
    builder.append(value.text());
  } else if (!value.is_undefined()) {
    PythonWriter(builder, runtime).write(value, 0);
  }
}

std::string printed(Runtime& runtime, const Value& value) {
  TextBuilder builder(runtime);
  append_printed(builder, runtime, value);
  return std::string(builder.finish().text());
}

void append_json(TextBuilder& builder,
                 Runtime& runtime,
                 const Value& value,
                 const JsonStyle& style) {
  JsonWriter(builder, runtime, style).write(value, 0);
}

}  // namespace adze::text::chat_template
