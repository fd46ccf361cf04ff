#pragma once
// The JSON of answers, as OpenAI's clients read it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "infer/sampler.h"
#include "serve/answer_stream.h"
#include "serve/request_fields.h"
#include "text/tokenizer.h"

namespace adze::serve {

std::string dump(const Json& json);  // text that is not UTF-8 comes out as U+FFFD

// The token's text; one that is part of a character as bytes:\xNN...
std::string token_name(const text::Tokenizer& tokenizer, int32_t token);

// logprobs of a chat: {"content": [...]}
Json chat_logprobs(const text::Tokenizer& tokenizer,
                   const std::vector<infer::SampledToken>& tokens);
// Tokens of the prompt, at the front of others.
struct EchoedTokens {
  size_t count = 0;
  bool begin_added = false;  // the first is not in the text
};
// logprobs of a completion. `offset`: characters of the text before; moved on. A token without a
// log-probability (the first of a prompt) has null.
Json completion_logprobs(const text::Tokenizer& tokenizer,
                         const std::vector<infer::SampledToken>& tokens,
                         const EchoedTokens& echoed,
                         int64_t& offset);

Json cache_json(const CacheState& cache, bool picture);
// called: there are calls, and they are whole.
std::string finish_name(infer::FinishReason reason, bool called);

}  // namespace adze::serve
