#include "serve/tool_calls.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace adze::serve {
namespace {

constexpr size_t kLongestHead = 1024;  // bytes up to the arguments; a name has 64 at most

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

size_t spaces(std::string_view text) {  // at the front
  return static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_space) - text.begin());
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
std::optional<CallHead> read_call_head(std::string_view text) {
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
  const Json name = Json::parse(text.substr(begin, at - begin), nullptr, false);  // one string
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

ToolCallReader::ToolCallReader(const std::vector<Tool>& tools, bool only_call)
    : only_call_(only_call), state_(only_call ? State::kHead : State::kText) {
  for (const Tool& tool : tools) {
    names_.push_back(tool.name);
  }
}

std::vector<AnswerPart> ToolCallReader::push(std::string_view text) {
  std::vector<AnswerPart> parts;
  held_ += text;
  bool more = true;
  while (more) {
    switch (state_) {
      case State::kText:
        more = read_text(parts);
        break;
      case State::kHead:
        more = read_head(parts);
        break;
      case State::kArguments:
        more = read_arguments(parts);
        break;
      case State::kTail:
        more = read_tail();
        break;
    }
  }
  return parts;
}

bool ToolCallReader::read_text(std::vector<AnswerPart>& parts) {
  if (after_call_) {
    held_.erase(0, spaces(held_));
    after_call_ = held_.empty();
  }
  const size_t found = held_.find(kCallOpen);
  const bool opens = found != std::string::npos;
  const size_t safe = opens ? found : held_.size() - partial_match(held_, kCallOpen);
  if (safe > 0) {
    parts.push_back({AnswerPart::Kind::kText, 0, held_.substr(0, safe), ""});
  }
  held_.erase(0, safe + (opens ? kCallOpen.size() : 0));
  state_ = opens ? State::kHead : State::kText;
  return opens;
}

bool ToolCallReader::read_head(std::vector<AnswerPart>& parts) {
  const auto head = read_call_head(held_);
  if (head && std::find(names_.begin(), names_.end(), head->name) != names_.end()) {
    parts.push_back({AnswerPart::Kind::kCall, calls_, "", head->name});
    held_.erase(0, head->arguments);
    ++calls_;
    state_ = State::kArguments;
    return true;
  }
  if (!only_call_ &&
      (head || held_.size() > kLongestHead || held_.find(kCallClose) != held_.npos)) {
    parts.push_back({AnswerPart::Kind::kText, 0, std::string(kCallOpen), ""});
    state_ = State::kText;
    return true;
  }
  return false;
}

// Up to the brace that closes the call around them.
bool ToolCallReader::read_arguments(std::vector<AnswerPart>& parts) {
  std::string taken;
  size_t at = 0;
  bool ended = false;
  for (; at < held_.size() && !ended; ++at) {
    const char c = held_[at];
    if (in_string_) {
      in_string_ = escaped_ || c != '"';
      escaped_ = !escaped_ && c == '\\';
    } else if (depth_ == 0 && (c == '}' || is_space(c))) {
      ended = c == '}';
      continue;
    } else {
      in_string_ = c == '"';
      depth_ += c == '{' || c == '[' ? 1 : 0;
      depth_ -= c == '}' || c == ']' ? 1 : 0;
    }
    taken += c;
  }
  held_.erase(0, at);
  if (!taken.empty()) {
    parts.push_back({AnswerPart::Kind::kArguments, calls_ - 1, std::move(taken), ""});
  }
  state_ = ended ? State::kTail : State::kArguments;
  return ended;
}

bool ToolCallReader::read_tail() {
  held_.erase(0, spaces(held_));
  if (only_call_) {
    held_.clear();
    return false;
  }
  if (held_.size() < kCallClose.size() && kCallClose.starts_with(held_)) {
    return false;
  }
  if (held_.starts_with(kCallClose)) {
    held_.erase(0, kCallClose.size());
  }
  after_call_ = true;
  state_ = State::kText;
  return true;
}

std::vector<AnswerPart> ToolCallReader::finish() {
  std::vector<AnswerPart> parts;
  const bool tagged = state_ == State::kHead && !only_call_;
  if ((state_ == State::kText || state_ == State::kHead) && (tagged || !held_.empty())) {
    parts.push_back(
        {AnswerPart::Kind::kText, 0, (tagged ? std::string(kCallOpen) : "") + held_, ""});
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

Json explain_tools(const Json& messages, const Json& definitions) {
  std::string text = "You can call functions. Each is described by a JSON object:\n<tools>\n";
  for (const Json& definition : definitions) {
    text += definition.dump() + "\n";
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
