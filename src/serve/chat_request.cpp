// Requests of /v1/chat/completions: messages and tools.

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "serve/completion_request.h"
#include "serve/session.h"

namespace adze::serve {
namespace {

Json read_content(RequestFields& fields, const std::string& place) {
  const Json* content = fields.any("content");
  if (content == nullptr) {
    return nullptr;
  }
  if (content->is_string()) {
    return *content;
  }
  if (!content->is_array()) {
    throw bad_request(place + ".content",
                      fmt::format("[{}.content] expected a string or a list of parts", place));
  }
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    RequestFields part((*content)[i], fmt::format("{}.content[{}]", place, i));
    part.choice("type", {"text"}, "text");
    const auto piece = part.text("text");
    if (!piece) {
      throw bad_request(part.path("text"),
                        fmt::format("[{}] expected a string, got none", part.path("text")));
    }
    text += *piece;
    part.finish();
  }
  return text;
}

Json read_tool_calls(const Json& value, const std::string& place) {
  if (!value.is_array()) {
    throw bad_request(place, fmt::format("[{}] expected a list", place));
  }
  Json calls = Json::array();
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string call_place = fmt::format("{}[{}]", place, i);
    RequestFields call(value[i], call_place);
    const std::string id = call.text("id").value_or("");
    call.choice("type", {"function"}, "function");
    const Json* function = call.any("function");
    RequestFields inner(function, call_place + ".function");
    const std::string name = inner.text("name").value_or("");
    const std::string arguments = inner.text("arguments").value_or("{}");
    inner.finish();
    call.finish();
    // Templates write the arguments as JSON themselves. accept() does not recurse.
    Json written = {{"name", name}};
    written["arguments"] =
        Json::accept(arguments)
            ? parse_json(arguments, call_place + ".function.arguments", kInnerJson)
            : Json(arguments);
    Json entry = {{"id", id}, {"type", "function"}};
    entry["function"] = std::move(written);
    calls.push_back(std::move(entry));
  }
  return calls;
}

// Members of an answer that clients send back as they got it: null or empty, or refused.
void read_answer_members(RequestFields& message) {
  for (const char* name : {"refusal", "audio", "function_call", "annotations"}) {
    const Json* value = message.any(name);
    if (value != nullptr && !(value->is_array() && value->empty())) {
      message.refuse(name, "templates do not read it");
    }
  }
}

Json read_messages(RequestFields& fields) {
  const Json* list = fields.any("messages");
  if (list == nullptr || !list->is_array() || list->empty()) {
    throw bad_request("messages", "[messages] expected a list of at least one message");
  }
  Json messages = Json::array();
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string place = fmt::format("messages[{}]", i);
    RequestFields message((*list)[i], place);
    const std::string role =
        message.choice("role", {"system", "developer", "user", "assistant", "tool"}, "");
    if (role.empty()) {
      throw bad_request(place + ".role",
                        fmt::format("[{}.role] expected system, developer, user, assistant or "
                                    "tool, got none",
                                    place));
    }
    const Json content = read_content(message, place);
    Json read = {{"role", role == "developer" ? "system" : role}};
    const Json* calls = role == "assistant" ? message.any("tool_calls") : nullptr;
    if (content.is_null() && calls == nullptr) {
      throw bad_request(place + ".content",
                        fmt::format("[{}.content] expected a text, got none", place));
    }
    read["content"] = content.is_null() ? Json("") : content;
    if (const auto name = message.text("name")) {
      read["name"] = *name;
    }
    if (calls != nullptr) {
      read["tool_calls"] = read_tool_calls(*calls, place + ".tool_calls");
    }
    if (role == "assistant") {
      read_answer_members(message);
    }
    if (role == "tool") {
      read["tool_call_id"] = message.text("tool_call_id").value_or("");
    }
    message.finish();
    messages.push_back(std::move(read));
  }
  return messages;
}

void read_tools(RequestFields& fields, CompletionRequest& request) {
  if (const Json* list = fields.any("tools")) {
    if (!list->is_array() || list->size() > 128) {
      throw bad_request("tools", "[tools] expected a list of at most 128 tools");
    }
    std::set<std::string> names;
    for (size_t i = 0; i < list->size(); ++i) {
      RequestFields entry((*list)[i], fmt::format("tools[{}]", i));
      entry.choice("type", {"function"}, "function");
      const Json* definition = entry.any("function");
      const std::string place = fmt::format("tools[{}].function", i);
      RequestFields function(definition, place);
      Tool tool;
      tool.name = function.text("name").value_or("");
      const auto legal = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
      };
      if (tool.name.empty() || tool.name.size() > 64 ||
          !std::all_of(tool.name.begin(), tool.name.end(), legal) ||
          !names.insert(tool.name).second) {
        throw bad_request(place + ".name",
                          fmt::format("[{}.name] expected a name of its own, 1 to 64 letters, "
                                      "digits, _ or -",
                                      place));
      }
      function.text("description");
      function.boolean("strict");
      const Json* parameters = function.any("parameters");
      tool.parameters = parameters == nullptr
                            ? Json{{"type", "object"}, {"properties", Json::object()}}
                            : *parameters;
      tool.definition = (*list)[i];
      function.finish();
      entry.finish();
      request.tools.push_back(std::move(tool));
    }
  }
}

void read_tool_choice(RequestFields& fields, CompletionRequest& request) {
  request.tool_choice.kind =
      request.tools.empty() ? ToolChoice::Kind::kNone : ToolChoice::Kind::kAuto;
  if (const Json* choice = fields.any("tool_choice")) {
    if (choice->is_object()) {
      RequestFields outer(*choice, "tool_choice");
      outer.choice("type", {"function"}, "function");
      const Json* function = outer.any("function");
      RequestFields inner(function, "tool_choice.function");
      request.tool_choice = {ToolChoice::Kind::kRequired, inner.text("name").value_or("")};
      inner.finish();
      outer.finish();
      const auto& name = request.tool_choice.name;
      if (std::none_of(request.tools.begin(), request.tools.end(), [&](const Tool& tool) {
            return tool.name == name;
          })) {
        throw bad_request("tool_choice.function.name",
                          fmt::format("[tool_choice.function.name] expected one of the tools, got "
                                      "{}",
                                      name.substr(0, 80)));
      }
    } else {
      const std::string kind = fields.choice("tool_choice", {"none", "auto", "required"}, "auto");
      if (kind == "required" && request.tools.empty()) {
        throw bad_request("tool_choice", "[tool_choice] expected tools to choose from, got none");
      }
      request.tool_choice.kind = kind == "none" || request.tools.empty() ? ToolChoice::Kind::kNone
                                 : kind == "auto"                        ? ToolChoice::Kind::kAuto
                                                  : ToolChoice::Kind::kRequired;
    }
  }
  request.parallel_calls = fields.boolean("parallel_tool_calls").value_or(true);
  if (request.tool_choice.kind == ToolChoice::Kind::kNone) {
    return;
  }
  if (request.format.kind != ResponseFormat::Kind::kText) {
    throw bad_request("response_format",
                      "[response_format] expected none beside tools that may be called, got one; "
                      "tool_choice: none switches them off");
  }
  if (request.ignore_eos) {
    throw bad_request("ignore_eos", "[ignore_eos] expected false beside tools that may be called");
  }
}

}  // namespace

CompletionRequest read_chat_request(const Json& body) {
  RequestFields fields(body);
  CompletionRequest request;
  request.chat = true;
  request.messages = read_messages(fields);
  read_common(fields, request);
  const auto newer = fields.integer("max_completion_tokens", 1, kMostTokens);
  const auto older = fields.integer("max_tokens", 1, kMostTokens);
  if (newer && older && *newer != *older) {
    throw bad_request("max_tokens",
                      "[max_tokens] expected max_completion_tokens alone, got both, and different");
  }
  request.max_tokens = newer ? newer : older;
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto alternatives = fields.integer("top_logprobs", 0, kMostAlternatives);
  if (alternatives && !logprobs) {
    throw bad_request("top_logprobs", "[top_logprobs] expected logprobs: true beside it");
  }
  if (logprobs) {
    request.logprobs = alternatives.value_or(0);
  }
  request.session = fields.text("session").value_or("");
  if (!request.session.empty()) {
    check_session_id(request.session);
    if (request.samples != 1) {
      throw bad_request("n",
                        fmt::format("[n] expected 1 in a session, which goes on with one answer, "
                                    "got {}",
                                    request.samples));
    }
  }
  read_tools(fields, request);
  read_tool_choice(fields, request);
  fields.finish();
  return request;
}

}  // namespace adze::serve
