#pragma once
// The next token from one row of logits. The result depends on (logits, history, options, seed,
// index of the generated token) and on nothing else: no state survives a call.
//
// Order of the steps:
//   0. tokens that a constraint forbids are out, whatever the other steps say
//   1. logit bias, repetition penalty, frequency and presence penalty change the logits
//   2. temperature 0: the largest logit wins, the lowest id among equals, and nothing else happens
//   3. top-k keeps the k largest; top-p keeps the smallest set of the likeliest tokens whose share
//      of what top-k left reaches p; min-p drops what is less likely than min-p x the likeliest
//   4. temperature, then one draw over what is left
// The filters see the distribution at temperature 1, so that a high temperature does not let in
// tokens that the model itself holds to be noise.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "infer/candidates.h"

namespace adze::infer {

// The defaults are those of llama.cpp's programs; a server that speaks OpenAI's protocol sets
// temperature 1 and switches the filters off.
struct SamplingOptions {
  double temperature = 0.8;
  int64_t top_k = 40;
  double top_p = 0.95;
  double min_p = 0.05;
  double repetition_penalty = 1.0;
  int64_t penalty_window = 64;
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  std::vector<std::string> logit_bias;
  uint64_t seed = 0;
  std::optional<int64_t> logprobs;

  void validate() const;  // throws InvalidOption: field, value, legal range

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("temperature", self.temperature, "0 takes the likeliest token; up to 100");
    visit("top-k", self.top_k, "keep the k likeliest tokens; 0 keeps all");
    visit("top-p", self.top_p, "keep the likeliest tokens up to this share, in (0, 1]; 1 is off");
    visit(
        "min-p", self.min_p, "drop tokens below this share of the likeliest, in [0, 1]; 0 is off");
    visit("repetition-penalty",
          self.repetition_penalty,
          "divides logits of tokens in prompt and answer, in (0, 100]; 1 is off");
    visit("penalty-window",
          self.penalty_window,
          "newest tokens the repetition penalty looks at; 0 looks at all");
    visit("frequency-penalty",
          self.frequency_penalty,
          "subtracted for each time the answer has the token, in [-2, 2]");
    visit("presence-penalty",
          self.presence_penalty,
          "subtracted once if the answer has the token, in [-2, 2]");
    visit("logit-bias", self.logit_bias, "ID:BIAS pairs, BIAS in [-100, 100] or -inf (never)");
    visit("seed", self.seed, "same seed, same text");
    visit("logprobs",
          self.logprobs,
          "report the log-probability and those of this many likeliest tokens, 0 to 100");
  }
};

// What the penalties look at: repetition at both, frequency and presence at `generated` only.
struct TokenHistory {
  std::span<const int32_t> prompt;
  std::span<const int32_t> generated;
};

struct TokenLogprob {
  int32_t token;
  float logprob;
};

struct SampledToken {
  int32_t token = 0;
  // Of the distribution that the model gave: temperature 1, before constraint, bias, penalties and
  // filters.
  std::optional<float> logprob;            // set if the options ask for logprobs
  std::vector<TokenLogprob> top_logprobs;  // likeliest first, the lowest id first among equals
};

// Buffers that calls reuse; one a thread. Carries nothing from call to call.
struct SamplerWorkspace {
  std::vector<float> adjusted;        // logits after bias, penalties and constraint, [vocab_size]
  std::vector<float> block_maxima;    // largest logit of each block
  std::vector<float> scratch;         // block maxima in another order
  std::vector<int32_t> counts;        // [vocab_size], all 0 between calls
  std::vector<Candidate> candidates;  // by id
  std::vector<Candidate> ranked;      // by logit, as far as needed
};

// A token that is given, not drawn, with its log-probability and those of the `alternatives`
// likeliest. Throws core::Error: logits that are not finite.
SampledToken score_token(std::span<const float> logits,
                         int32_t token,
                         int64_t alternatives,
                         SamplerWorkspace& workspace);

class Sampler {
 public:
  Sampler(SamplingOptions options, int64_t vocab_size);  // throws InvalidOption

  // logits [vocab_size]; `index`: number of the generated token, from 0. `allowed`: bit t % 64 of
  // word t / 64 says whether token t may come, [(vocab_size + 63) / 64]; empty: all may.
  // Throws core::Error: logits that are not finite, a token outside the vocabulary, every token
  // forbidden.
  SampledToken sample(std::span<const float> logits,
                      const TokenHistory& history,
                      uint64_t index,
                      SamplerWorkspace& workspace,
                      std::span<const uint64_t> allowed = {}) const;

  const SamplingOptions& options() const { return options_; }

 private:
  bool changes_logits() const;
  void adjust(std::span<const float> logits,
              const TokenHistory& history,
              SamplerWorkspace& workspace) const;
  void penalise_repetition(const TokenHistory& history, SamplerWorkspace& workspace) const;
  void penalise_generated(std::span<const int32_t> generated, SamplerWorkspace& workspace) const;
  void keep_candidates(std::span<const float> logits,
                       float largest,
                       SamplerWorkspace& workspace) const;
  int32_t choose(std::span<const float> logits,
                 float largest,
                 uint64_t index,
                 SamplerWorkspace& workspace) const;

  SamplingOptions options_;
  std::vector<std::pair<int32_t, float>> bias_;
  core::Rng random_;
  int64_t vocab_size_;
};

// "ID:BIAS" -> (ID, BIAS); throws InvalidOption.
std::pair<int32_t, float> parse_logit_bias(std::string_view text);

}  // namespace adze::infer
