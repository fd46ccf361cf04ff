#include "serve/completion_request.h"

#include <algorithm>
#include <limits>
#include <random>

#include <fmt/format.h>

#include "infer/prompt_lookup.h"

namespace adze::serve {
namespace {

constexpr int64_t kMostStops = 16;
constexpr size_t kLongestStop = 1024;  // bytes; each sample looks for it in what it writes
constexpr int64_t kMostSamples = 128;
constexpr size_t kMostPrompts = 256;
constexpr int64_t kMostChoices = 4096;  // prompts x n, each with a text and a state of its own

void read_sampling(RequestFields& fields, CompletionRequest& request) {
  infer::SamplingOptions& sampling = request.sampling;
  // OpenAI's defaults: the model's own distribution.
  sampling.temperature = fields.number("temperature", 0, 100).value_or(1);
  // -1 is how clients of vLLM and llama.cpp switch it off, and ask for any seed.
  sampling.top_k = std::max<int64_t>(fields.integer("top_k", -1, kMostTokens).value_or(0), 0);
  sampling.top_p = fields.number("top_p", 1e-9, 1).value_or(1);
  sampling.min_p = fields.number("min_p", 0, 1).value_or(0);
  sampling.repetition_penalty = fields.number("repetition_penalty", 0.01, 100).value_or(1);
  sampling.frequency_penalty = fields.number("frequency_penalty", -2, 2).value_or(0);
  sampling.presence_penalty = fields.number("presence_penalty", -2, 2).value_or(0);
  const int64_t seed = fields.integer("seed", -1, std::numeric_limits<int64_t>::max()).value_or(-1);
  // Reported back, and exact in JavaScript.
  sampling.seed = seed >= 0 ? static_cast<uint64_t>(seed) : std::random_device()() % (1U << 31);
  if (const Json* bias = fields.any("logit_bias")) {
    RequestFields entries(*bias, "logit_bias");
    for (const auto& [id, value] : bias->items()) {
      const auto amount = entries.number(id, -100, 100);
      if (!amount) {
        throw bad_request(entries.path(id),
                          fmt::format("[{}] expected a number, got null", entries.path(id)));
      }
      // -100 is "never" in OpenAI's words.
      sampling.logit_bias.push_back(
          fmt::format("{}:{}", id, *amount <= -100 ? "-inf" : fmt::format("{}", *amount)));
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
        fmt::format("[stop] expected a string or a list of at most {} strings of 1 to {} bytes",
                    kMostStops,
                    kLongestStop));
  };
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty() ||
        stop.get_ref<const std::string&>().size() > kLongestStop ||
        static_cast<int64_t>(stops.size()) == kMostStops) {
      throw wrong();
    }
    stops.push_back(stop.get<std::string>());
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

}  // namespace

void read_common(RequestFields& fields, CompletionRequest& request) {
  request.model = fields.text("model").value_or("");
  read_sampling(fields, request);
  request.samples = fields.integer("n", 1, kMostSamples).value_or(1);
  request.stop = read_stop(fields);
  request.format = read_format(fields);
  read_stream(fields, request);
  request.kv_store = fields.text("kv_store").value_or("");
  request.kv_policy = fields.text("kv_policy").value_or("");
  request.guesses = fields.integer("guesses", 0, infer::kMostGuesses).value_or(0);
  request.cache_salt = fields.text("cache_salt").value_or("");
  request.cache_picture = fields.boolean("cache_picture").value_or(false);
  request.timeout_seconds = fields.number("timeout_seconds", 0.001, 86400);
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  if (request.ignore_eos && request.format.kind != ResponseFormat::Kind::kText) {
    throw bad_request(
        "ignore_eos",
        "[ignore_eos] expected false beside a response_format, whose text has an end");
  }
  fields.text("user");  // an abuse-tracking label; goes nowhere
  fields.choice("answer_strategy", {"first"}, "first");
}

std::vector<Prompt> read_prompts(const Json& value, const std::string& name, size_t most) {
  const auto wrong = [&] {
    return bad_request(name,
                       fmt::format("[{}] expected a string, token ids, or a list of at most {} of "
                                   "either",
                                   name,
                                   most));
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
  if (value.size() > most) {
    throw wrong();
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
  return prompts;
}

CompletionRequest read_completion_request(const Json& body) {
  RequestFields fields(body);
  CompletionRequest request;
  const Json* prompt = fields.any("prompt");
  if (prompt == nullptr) {
    throw bad_request("prompt", "[prompt] expected a string, token ids, or a list, got none");
  }
  request.prompts = read_prompts(*prompt, "prompt", kMostPrompts);
  read_common(fields, request);
  if (static_cast<int64_t>(request.prompts.size()) * request.samples > kMostChoices) {
    throw bad_request("n",
                      fmt::format("[n] expected at most {} answers in all, got {} prompts with {} "
                                  "answers each",
                                  kMostChoices,
                                  request.prompts.size(),
                                  request.samples));
  }
  request.echo = fields.boolean("echo").value_or(false);
  request.max_tokens = fields.integer("max_tokens", 0, kMostTokens).value_or(16);
  if (*request.max_tokens == 0 && !request.echo) {
    throw bad_request("max_tokens", "[max_tokens] expected at least 1, or echo: true, got 0");
  }
  request.logprobs = fields.integer("logprobs", 0, kMostAlternatives);
  fields.refuse("session", "a session is a chat; use /v1/chat/completions");
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
