#pragma once
// Requests of /v1/chat/completions and /v1/completions, read and checked; nothing here computes.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "infer/sampler.h"
#include "serve/request_fields.h"

namespace adze::serve {

inline constexpr int64_t kMostTokens = int64_t{1} << 30;
inline constexpr int64_t kMostAlternatives = 20;

// One text of a completion request, or its tokens.
using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct ResponseFormat {
  enum class Kind { kText, kJsonObject, kJsonSchema };
  Kind kind = Kind::kText;
  Json schema;
};

struct Tool {
  std::string name;
  Json definition;  // the whole entry, for templates
  Json parameters;  // a schema
};

struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired };
  Kind kind = Kind::kNone;
  std::string name;  // kRequired: this one; "": any
};

struct CompletionRequest {
  bool chat = false;
  std::string model;
  Json messages;                // of a chat, as templates read them
  std::vector<Prompt> prompts;  // of a completion
  bool echo = false;

  infer::SamplingOptions sampling;
  int64_t samples = 1;
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  int64_t guesses = 0;
  std::optional<int64_t> logprobs;  // with so many alternatives
  ResponseFormat format;
  std::vector<Tool> tools;
  ToolChoice tool_choice;
  bool parallel_calls = true;  // false: the first call ends the answer
  bool ignore_eos = false;     // the model cannot end its answer

  bool stream = false;
  bool include_usage = false;
  std::string kv_store;   // "": the server's, or the session's
  std::string kv_policy;  // "": the server's, or the session's
  std::string session;    // "": none
  std::string cache_salt;
  bool cache_picture = false;
  std::optional<double> timeout_seconds;
};

// Throw ApiError naming the field: unknown, of a wrong type, out of range, not supported.
CompletionRequest read_chat_request(const Json& body);
CompletionRequest read_completion_request(const Json& body);

// What both have in common.
void read_common(RequestFields& fields, CompletionRequest& request);

// A prompt, or a list of at most `most` prompts (strings, token ids, lists of either). `name`: the
// field.
std::vector<Prompt> read_prompts(const Json& value, const std::string& name, size_t most);

}  // namespace adze::serve
