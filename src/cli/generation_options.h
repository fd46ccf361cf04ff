#pragma once
// Flags of every command that generates.

#include <optional>
#include <string>

#include "core/progress.h"
#include "infer/generator.h"

namespace adze::cli {

struct GenerationOptions {
  int64_t max_tokens = 512;
  infer::SamplingOptions sampling;
  infer::CacheOptions cache;
  int64_t guesses = 0;

  void validate() const;
  infer::GenerationRequest request() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("max-tokens", self.max_tokens, "longest answer in tokens, 1 to 1073741824");
    visit("", self.sampling, "");
    visit("", self.cache, "");
    visit("guesses",
          self.guesses,
          "check up to so many tokens a step that repetition suggests, 0 to 15; same text, faster "
          "where the answer quotes the prompt");
  }
};

std::string finish_text(infer::FinishReason reason);  // "stop", "length", "context"
// "12 prompt tokens at 310/s, 80 answer tokens at 152/s"; says why an answer was cut.
std::string speed_text(const infer::GenerationResult& result);

// Shows how far a prompt of several chunks has come; short ones stay silent.
class PromptProgress {
 public:
  explicit PromptProgress(int64_t chunk) : chunk_(chunk) {}
  // all: tokens of the prompt, known from the first call on
  void update(int64_t done, int64_t all);

 private:
  int64_t chunk_;
  std::optional<core::Progress> progress_;
};

}  // namespace adze::cli
