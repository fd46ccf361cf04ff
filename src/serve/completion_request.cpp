#include "serve/completion_request.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <random>
#include <set>

#include <fmt/format.h>

#include "infer/prompt_lookup.h"

namespace adze::serve {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;
constexpr int64_t kMostStops = 16;
constexpr int64_t kMostSamples = 128;
constexpr int64_t kMostAlternatives = 20;
constexpr size_t kMostPrompts = 256;

void read_sampling(RequestFields& fields, CompletionRequest& request) {
  infer::SamplingOptions& sampling = request.sampling;
  // OpenAI's defaults: the model's own distribution.
  sampling.temperature = fields.number("temperature", 0, 100).value_or(1);
  sampling.top_k = fields.integer("top_k", 0, kMostTokens).value_or(0);
  sampling.top_p = fields.number("top_p", 1e-9, 1).value_or(1);
  sampling.min_p = fields.number("min_p", 0, 1).value_or(0);
  sampling.repetition_penalty = fields.number("repetition_penalty", 0.01, 100).value_or(1);
  sampling.frequency_penalty = fields.number("frequency_penalty", -2, 2).value_or(0);
  sampling.presence_penalty = fields.number("presence_penalty", -2, 2).value_or(0);
  const auto seed = fields.integer("seed", 0, std::numeric_limits<int64_t>::max());
  request.seed_given = seed.has_value();
  // Reported back, and exact in JavaScript.
  sampling.seed = seed ? static_cast<uint64_t>(*seed) : std::random_device()() % (1U << 31);
  if (const Json* bias = fields.any("logit_bias")) {
    RequestFields entries(*bias, "logit_bias");
    for (const auto& [id, value] : bias->items()) {
      const double amount = *entries.number(id, -100, 100);
      // -100 is "never" in OpenAI's words.
      sampling.logit_bias.push_back(
          fmt::format("{}:{}", id, amount <= -100 ? "-inf" : fmt::format("{}", amount)));
    }
  }
}

std::vector<std::string> read_stop(RequestFields& fields) {
  const Json* value = fields.any("stop");
  std::vector<std::string> stops;
  if (value == nullptr) {
    return stops;
  }
  const auto wrong = [&] {
    return bad_request(
        "stop",
        fmt::format("[stop] expected a string or a list of at most {} strings, none of them empty",
                    kMostStops));
  };
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty()) {
      throw wrong();
    }
    stops.push_back(stop.get<std::string>());
  }
  if (static_cast<int64_t>(stops.size()) > kMostStops) {
    throw wrong();
  }
  return stops;
}

ResponseFormat read_format(RequestFields& fields) {
  ResponseFormat format;
  const Json* value = fields.any("response_format");
  if (value == nullptr) {
    return format;
  }
  RequestFields inner(*value, "response_format");
  const std::string type = inner.choice("type", {"text", "json_object", "json_schema"}, "");
  if (type.empty()) {
    throw bad_request("response_format.type",
                      "[response_format.type] expected text, json_object or json_schema, got none");
  }
  if (type == "json_object") {
    format.kind = ResponseFormat::Kind::kJsonObject;
  } else if (type == "json_schema") {
    format.kind = ResponseFormat::Kind::kJsonSchema;
    const Json* outer = inner.any("json_schema");
    RequestFields schema(outer, "response_format.json_schema");
    schema.text("name");
    schema.text("description");
    schema.boolean("strict");  // always kept to
    const Json* body = schema.any("schema");
    if (body == nullptr) {
      throw bad_request("response_format.json_schema.schema",
                        "[response_format.json_schema.schema] expected a JSON schema, got none");
    }
    format.schema = *body;
    schema.finish();
  }
  inner.finish();
  return format;
}

void read_stream(RequestFields& fields, CompletionRequest& request) {
  request.stream = fields.boolean("stream").value_or(false);
  if (const Json* options = fields.any("stream_options")) {
    if (!request.stream) {
      throw bad_request("stream_options",
                        "[stream_options] expected none without stream: true, got some");
    }
    RequestFields inner(*options, "stream_options");
    request.include_usage = inner.boolean("include_usage").value_or(false);
    inner.finish();
  }
}

void read_common(RequestFields& fields, CompletionRequest& request) {
  request.model = fields.text("model").value_or("");
  read_sampling(fields, request);
  request.samples = fields.integer("n", 1, kMostSamples).value_or(1);
  request.stop = read_stop(fields);
  request.format = read_format(fields);
  read_stream(fields, request);
  request.kv_store = fields.text("kv_store").value_or("f16");
  request.kv_policy = fields.text("kv_policy").value_or("full");
  request.guesses = fields.integer("guesses", 0, infer::kMostGuesses).value_or(0);
  request.cache_salt = fields.text("cache_salt").value_or("");
  request.cache_picture = fields.boolean("cache_picture").value_or(false);
  request.timeout_seconds = fields.number("timeout_seconds", 0.001, 86400);
  fields.text("user");  // an abuse-tracking label; goes nowhere
  fields.choice("answer_strategy", {"first"}, "first");
  fields.refuse("session", "sessions are not supported yet");
}

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
    // Templates write the arguments as JSON themselves.
    Json parsed = Json::parse(arguments, nullptr, false);
    calls.push_back(
        {{"id", id},
         {"type", "function"},
         {"function",
          {{"name", name}, {"arguments", parsed.is_discarded() ? Json(arguments) : parsed}}}});
  }
  return calls;
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
      message.any("refusal");  // what our own answers have: null
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
  fields.boolean("parallel_tool_calls");
  if (request.tool_choice.kind == ToolChoice::Kind::kRequired &&
      request.format.kind != ResponseFormat::Kind::kText) {
    throw bad_request("response_format",
                      "[response_format] expected none beside a required tool call, got one");
  }
}

}  // namespace

std::vector<Prompt> read_prompts(const Json& value, const std::string& name) {
  const auto wrong = [&] {
    return bad_request(name,
                       fmt::format("[{}] expected a string, token ids, or a list of at most {} of "
                                   "either",
                                   name,
                                   kMostPrompts));
  };
  const auto read_tokens = [&](const Json& list) {
    std::vector<int32_t> tokens;
    for (const Json& id : list) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
          id.get<int64_t>() > std::numeric_limits<int32_t>::max()) {
        throw wrong();
      }
      tokens.push_back(id.get<int32_t>());
    }
    return tokens;
  };
  if (value.is_string()) {
    return {value.get<std::string>()};
  }
  if (!value.is_array() || value.empty()) {
    throw wrong();
  }
  if (value[0].is_number()) {
    return {read_tokens(value)};
  }
  std::vector<Prompt> prompts;
  for (const Json& entry : value) {
    if (entry.type() != value[0].type()) {
      throw wrong();
    }
    if (entry.is_string()) {
      prompts.emplace_back(entry.get<std::string>());
    } else if (entry.is_array()) {
      prompts.emplace_back(read_tokens(entry));
    } else {
      throw wrong();
    }
  }
  if (prompts.size() > kMostPrompts) {
    throw wrong();
  }
  return prompts;
}

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
  read_tools(fields, request);
  fields.finish();
  return request;
}

CompletionRequest read_completion_request(const Json& body) {
  RequestFields fields(body);
  CompletionRequest request;
  const Json* prompt = fields.any("prompt");
  if (prompt == nullptr) {
    throw bad_request("prompt", "[prompt] expected a string, token ids, or a list, got none");
  }
  request.prompts = read_prompts(*prompt, "prompt");
  read_common(fields, request);
  request.echo = fields.boolean("echo").value_or(false);
  request.max_tokens = fields.integer("max_tokens", 0, kMostTokens).value_or(16);
  if (*request.max_tokens == 0 && !request.echo) {
    throw bad_request("max_tokens", "[max_tokens] expected at least 1, or echo: true, got 0");
  }
  request.logprobs = fields.integer("logprobs", 0, kMostAlternatives);
  fields.refuse("suffix", "text cannot be inserted");
  const auto best_of = fields.integer("best_of", 1, kMostSamples);
  if (best_of && *best_of != request.samples) {
    throw bad_request("best_of",
                      fmt::format("[best_of] expected n, which is {}, got {}: answers are not "
                                  "thrown away",
                                  request.samples,
                                  *best_of),
                      "unsupported");
  }
  fields.finish();
  return request;
}

}  // namespace adze::serve
