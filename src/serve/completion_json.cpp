#include "serve/completion_json.h"

#include <fmt/format.h>

#include "kv/kv_store.h"
#include "text/stream.h"

namespace adze::serve {

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string token_name(const text::Tokenizer& tokenizer, int32_t token) {
  const std::string& bytes = tokenizer.token_bytes(token);
  text::Utf8Stream characters;
  if (characters.push(bytes) == bytes) {
    return bytes;
  }
  std::string name = "bytes:";
  for (const char byte : bytes) {
    name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return name;
}

namespace {

Json chat_token(const text::Tokenizer& tokenizer, int32_t token, float logprob) {
  Json bytes = Json::array();
  for (const char byte : tokenizer.token_bytes(token)) {
    bytes.push_back(static_cast<unsigned char>(byte));
  }
  return {{"token", token_name(tokenizer, token)}, {"logprob", logprob}, {"bytes", bytes}};
}

}  // namespace

Json chat_logprobs(const text::Tokenizer& tokenizer,
                   const std::vector<infer::SampledToken>& tokens) {
  Json content = Json::array();
  for (const infer::SampledToken& token : tokens) {
    Json entry = chat_token(tokenizer, token.token, token.logprob.value_or(0));
    Json top = Json::array();
    for (const infer::TokenLogprob& other : token.top_logprobs) {
      if (other.token < tokenizer.vocab_size()) {  // the model may rank rows without a token
        top.push_back(chat_token(tokenizer, other.token, other.logprob));
      }
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json completion_logprobs(const text::Tokenizer& tokenizer,
                         const std::vector<infer::SampledToken>& tokens,
                         const EchoedTokens& echoed,
                         int64_t& offset) {
  Json names = Json::array();
  Json logprobs = Json::array();
  Json tops = Json::array();
  Json offsets = Json::array();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const infer::SampledToken& token = tokens[i];
    names.push_back(token_name(tokenizer, token.token));
    offsets.push_back(offset);
    // A prompt's text has its control tokens, an answer's has not.
    const bool hidden =
        i < echoed.count ? i == 0 && echoed.begin_added : tokenizer.is_control(token.token);
    if (!hidden) {
      for (const char byte : tokenizer.token_bytes(token.token)) {
        offset += (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U ? 1 : 0;
      }
    }
    if (!token.logprob) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    logprobs.push_back(*token.logprob);
    Json top = Json::object();
    for (const infer::TokenLogprob& other : token.top_logprobs) {
      if (other.token < tokenizer.vocab_size()) {
        top[token_name(tokenizer, other.token)] = other.logprob;
      }
    }
    if (!token.top_logprobs.empty()) {  // the token itself, likely or not
      top[names.back().get<std::string>()] = *token.logprob;
    }
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(names)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json cache_json(const CacheState& cache, bool picture) {
  Json json = {{"store", cache.figures.store},
               {"policy", cache.figures.policy},
               {"bytes", cache.figures.bytes},
               {"full_bytes", cache.figures.full_bytes},
               {"tokens", cache.figures.tokens},
               {"kept_tokens", cache.figures.kept_tokens},
               {"page_tokens", kv::kPageTokens},
               {"layers", cache.kept.size()}};
  if (picture) {
    Json layers = Json::array();
    for (const auto& ranges : cache.kept) {
      Json layer = Json::array();
      for (const auto& [first, end] : ranges) {
        layer.push_back({first, end});
      }
      layers.push_back(std::move(layer));
    }
    json["kept"] = std::move(layers);
  }
  return json;
}

std::string finish_name(infer::FinishReason reason, bool called) {
  if (reason != infer::FinishReason::kStop) {
    return "length";  // also of a call, which is not whole
  }
  return called ? "tool_calls" : "stop";
}

}  // namespace adze::serve
