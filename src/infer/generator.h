#pragma once
// Generation of one sequence. Knows token ids only: text, templates and stop strings are the
// caller's.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "infer/finish_reason.h"
#include "infer/prompt_lookup.h"
#include "infer/sampler.h"
#include "kv/rotation.h"
#include "kv/sequence.h"

namespace adze::model {
struct Model;
}

namespace adze::infer {

struct CacheOptions {
  std::string kv_store = "f16";
  std::string kv_policy = "full";
  int64_t context = 0;
  int64_t prefill_chunk = 256;

  void validate() const;  // throws InvalidOption

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("kv-store", self.kv_store, "storage format of the cache, NAME[:key=value,...]");
    visit("kv-policy", self.kv_policy, "which tokens the cache keeps, NAME[:key=value,...]");
    visit("context", self.context, "longest text in tokens; 0 takes the model's trained context");
    visit("prefill-chunk", self.prefill_chunk, "prompt tokens a step, 1 to 65536");
  }
};

struct GenerationRequest {
  SamplingOptions sampling;
  int64_t max_tokens = 256;
  std::vector<int32_t> end_tokens;  // generation ends before these; they are not returned
  // 0 to kMostGuesses: up to so many tokens that repetition suggests are checked with the next one
  // (infer/prompt_lookup.h). Changes speed only. Not with a policy that evicts.
  int64_t guesses = 0;
};

struct GenerationResult {
  std::vector<SampledToken> tokens;
  FinishReason finish = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0;  // until the logits of the first token
  int64_t decode_steps = 0;    // passes after the prompt's
  int64_t decoded_tokens = 0;  // that these gave, an end token included; no guesses: one a step
  double decode_seconds = 0;   // of these, sampling included

  double prefill_tokens_per_second() const;
  double decode_tokens_per_second() const;  // 0 where no step was made
};

class Generator {
 public:
  // Throws core::Error: unknown store or policy, values out of range.
  Generator(std::shared_ptr<const model::Model> model, const CacheOptions& options);
  ~Generator();

  kv::Sequence new_sequence();

  using TokenCallback = std::function<bool(const SampledToken&)>;  // false: enough
  // After each chunk of the prompt; what it throws ends the generation.
  using ProgressCallback = std::function<void(int64_t tokens_done, int64_t tokens_in_all)>;

  // Appends the prompt (at least one token) and samples. The sequence afterwards holds the prompt
  // and every returned token but the last (an end token makes it every one). Throws ContextFull
  // before anything is computed when the prompt does not fit, InvalidOption for guesses.
  GenerationResult generate(kv::Sequence& sequence,
                            std::span<const int32_t> prompt,
                            const GenerationRequest& request,
                            const TokenCallback& on_token,
                            const ProgressCallback& on_progress = {});

  int64_t context() const;
  int64_t prefill_chunk() const;
  const model::Model& model() const;
  kv::PagePool& pool();
  kv::Rotation& rotation();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// The text is longer than the context; the message states the limit and the ways out.
class ContextFull : public core::Error {
 public:
  ContextFull(int64_t tokens, int64_t context);
};

}  // namespace adze::infer
