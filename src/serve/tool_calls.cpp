#include "serve/tool_calls.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace adze::serve {
namespace {

constexpr std::string_view kOpen = "<tool_call>";
constexpr std::string_view kClose = "</tool_call>";

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// Length of the longest end of `text` that `mark` begins with.
size_t partial_match(std::string_view text, std::string_view mark) {
  for (size_t length = std::min(text.size(), mark.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == mark.substr(0, length)) {
      return length;
    }
  }
  return 0;
}

struct CallHead {
  std::string name;
  size_t arguments;  // where they begin
};

// {"name": "...", "arguments":   as far as it is there.
std::optional<CallHead> read_head(std::string_view text) {
  size_t at = 0;
  const auto skip = [&](std::string_view wanted) {
    while (at < text.size() && is_space(text[at])) {
      ++at;
    }
    if (text.substr(at, wanted.size()) != wanted) {
      return false;
    }
    at += wanted.size();
    return true;
  };
  if (!skip("{") || !skip("\"name\"") || !skip(":") || !skip("")) {
    return std::nullopt;
  }
  const size_t begin = at;
  if (!skip("\"")) {
    return std::nullopt;
  }
  while (at < text.size() && text[at] != '"') {
    at += text[at] == '\\' ? 2 : 1;
  }
  if (at >= text.size()) {
    return std::nullopt;
  }
  ++at;
  const Json name = Json::parse(text.substr(begin, at - begin), nullptr, false);
  if (!skip(",") || !skip("\"arguments\"") || !skip(":") || !skip("") || at == text.size() ||
      !name.is_string()) {
    return std::nullopt;
  }
  return CallHead{name.get<std::string>(), at};
}

// References within a schema that has moved to `place` of a larger one.
Json move_references(const Json& schema, const std::string& place) {
  Json moved = schema;
  if (moved.is_object() || moved.is_array()) {
    for (auto& [key, value] : moved.items()) {
      if (key == "$ref" && value.is_string() &&
          value.get_ref<const std::string&>().starts_with('#')) {
        value = "#" + place + value.get_ref<const std::string&>().substr(1);
      } else {
        value = move_references(value, place);
      }
    }
  }
  return moved;
}

}  // namespace

std::vector<AnswerPart> ToolCallReader::push(std::string_view text) {
  std::vector<AnswerPart> parts;
  held_ += text;
  if (only_call_) {
    read_call(parts);
  } else {
    read_tagged(parts);
  }
  return parts;
}

void ToolCallReader::read_tagged(std::vector<AnswerPart>& parts) {
  while (true) {
    const std::string_view mark = inside_ ? kClose : kOpen;
    const size_t found = held_.find(mark);
    if (found == std::string::npos) {
      break;
    }
    if (inside_) {
      if (!add_call(std::string_view(held_).substr(0, found), parts)) {
        parts.push_back({AnswerPart::Kind::kText,
                         0,
                         std::string(kOpen) + held_.substr(0, found) + std::string(kClose),
                         ""});
      }
    } else if (found > 0) {
      parts.push_back({AnswerPart::Kind::kText, 0, held_.substr(0, found), ""});
    }
    held_.erase(0, found + mark.size());
    inside_ = !inside_;
  }
  if (!inside_) {
    const size_t safe = held_.size() - partial_match(held_, kOpen);
    if (safe > 0) {
      parts.push_back({AnswerPart::Kind::kText, 0, held_.substr(0, safe), ""});
      held_.erase(0, safe);
    }
  }
}

bool ToolCallReader::add_call(std::string_view json, std::vector<AnswerPart>& parts) {
  const Json call = Json::parse(json, nullptr, false);
  if (!call.is_object() || !call.contains("name") || !call["name"].is_string()) {
    return false;
  }
  const Json arguments = call.contains("arguments")    ? call["arguments"]
                         : call.contains("parameters") ? call["parameters"]
                                                       : Json::object();
  parts.push_back({AnswerPart::Kind::kCall, calls_, "", call["name"].get<std::string>()});
  parts.push_back({AnswerPart::Kind::kArguments,
                   calls_,
                   arguments.is_string() ? arguments.get<std::string>() : arguments.dump(),
                   ""});
  ++calls_;
  return true;
}

void ToolCallReader::read_call(std::vector<AnswerPart>& parts) {
  if (!inside_) {
    const auto head = read_head(held_);
    if (!head) {
      return;
    }
    parts.push_back({AnswerPart::Kind::kCall, 0, "", head->name});
    held_.erase(0, head->arguments);
    inside_ = true;
    calls_ = 1;
  }
  // The last brace is the call's, not the arguments': braces wait until something follows.
  size_t safe = held_.size();
  while (safe > 0 && (held_[safe - 1] == '}' || is_space(held_[safe - 1]))) {
    --safe;
  }
  if (safe > 0) {
    parts.push_back({AnswerPart::Kind::kArguments, 0, held_.substr(0, safe), ""});
    held_.erase(0, safe);
  }
}

std::vector<AnswerPart> ToolCallReader::finish() {
  std::vector<AnswerPart> parts;
  if (only_call_ && inside_) {
    while (!held_.empty() && is_space(held_.back())) {
      held_.pop_back();
    }
    if (held_.ends_with('}')) {
      held_.pop_back();
    }
    while (!held_.empty() && is_space(held_.back())) {
      held_.pop_back();
    }
    if (!held_.empty()) {
      parts.push_back({AnswerPart::Kind::kArguments, 0, held_, ""});
    }
  } else if (!only_call_ && inside_ && !add_call(held_, parts)) {
    parts.push_back({AnswerPart::Kind::kText, 0, std::string(kOpen) + held_, ""});
  } else if (!inside_ && !held_.empty()) {
    parts.push_back({AnswerPart::Kind::kText, 0, held_, ""});
  }
  held_.clear();
  return parts;
}

Json call_schema(const std::vector<Tool>& tools, const std::string& name) {
  std::vector<const Tool*> chosen;
  for (const Tool& tool : tools) {
    if (name.empty() || tool.name == name) {
      chosen.push_back(&tool);
    }
  }
  Json calls = Json::array();
  for (size_t i = 0; i < chosen.size(); ++i) {
    const std::string place =
        (chosen.size() == 1 ? "" : fmt::format("/anyOf/{}", i)) + "/properties/arguments";
    calls.push_back({{"type", "object"},
                     {"properties",
                      {{"name", {{"const", chosen[i]->name}}},
                       {"arguments", move_references(chosen[i]->parameters, place)}}},
                     {"required", {"name", "arguments"}},
                     {"additionalProperties", false}});
  }
  return chosen.size() == 1 ? calls[0] : Json{{"anyOf", calls}};
}

Json explain_tools(const Json& messages, const std::vector<Tool>& tools) {
  std::string text = "You can call functions. Each is described by a JSON object:\n<tools>\n";
  for (const Tool& tool : tools) {
    text += tool.definition.dump() + "\n";
  }
  text +=
      "</tools>\nTo call one, write a JSON object with its name and arguments between tags:\n"
      "<tool_call>\n{\"name\": <name>, \"arguments\": <object>}\n</tool_call>";
  Json explained = messages;
  if (explained[0]["role"] == "system") {
    explained[0]["content"] = explained[0]["content"].get<std::string>() + "\n\n" + text;
  } else {
    explained.insert(explained.begin(), Json{{"role", "system"}, {"content", text}});
  }
  return explained;
}

}  // namespace adze::serve
