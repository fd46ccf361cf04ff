#include "cli/generation_options.h"

#include "core/error.h"

namespace adze::cli {

void GenerationOptions::validate() const {
  if (max_tokens < 1 || max_tokens > (int64_t{1} << 30)) {
    throw core::InvalidOption("max-tokens", std::to_string(max_tokens), "1 to 1073741824");
  }
  sampling.validate();
  cache.validate();
}

infer::GenerationRequest GenerationOptions::request() const {
  return {.sampling = sampling, .max_tokens = max_tokens, .end_tokens = {}, .guesses = guesses};
}

void PromptProgress::update(int64_t done, int64_t all) {
  if (all <= chunk_) {
    return;
  }
  if (!progress_) {
    progress_.emplace("prompt", all, "tokens");
  }
  progress_->update(done);
  if (done == all) {
    progress_->finish();
  }
}

std::string finish_text(infer::FinishReason reason) {
  switch (reason) {
    case infer::FinishReason::kStop:
      return "stop";
    case infer::FinishReason::kLength:
      return "length";
    case infer::FinishReason::kContext:
      return "context";
  }
  return "";
}

std::string speed_text(const infer::GenerationResult& result) {
  std::string text = fmt::format("{} prompt tokens at {:.0f}/s, {} answer tokens at {:.0f}/s",
                                 result.prompt_tokens,
                                 result.prefill_tokens_per_second(),
                                 result.tokens.size(),
                                 result.decode_tokens_per_second());
  if (result.finish == infer::FinishReason::kLength) {
    text += "; ended by --max-tokens";
  } else if (result.finish == infer::FinishReason::kContext) {
    text +=
        "; the context is full: use /reset in a chat, a larger --context, or an evicting "
        "--kv-policy such as window";
  }
  return text;
}

}  // namespace adze::cli
