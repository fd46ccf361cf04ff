#pragma once
// Prefill and decode speed of a model at a depth, as llama-bench measures them.

#include <cstdint>
#include <functional>
#include <vector>

#include "infer/generator.h"

namespace adze::infer {

struct SpeedOptions {
  int64_t prompt_tokens = 512;
  int64_t decode_tokens = 32;
  int64_t depth = 0;
  int64_t repetitions = 5;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("prompt-tokens", self.prompt_tokens, "tokens of the prefill test; 0 leaves it out");
    visit("decode-tokens", self.decode_tokens, "tokens of the decode test; 0 leaves it out");
    visit("depth", self.depth, "tokens in the cache before either test begins");
    visit("repetitions", self.repetitions, "measured runs of each, 1 to 1000, after one warm-up");
  }
};

struct SpeedResult {
  std::vector<double> prefill;  // tokens/s, one a repetition
  std::vector<double> decode;
  double depth = 0;         // tokens/s of filling the cache to the depth, once; 0 at depth 0
  int64_t cache_bytes = 0;  // at the end of the decode test
  // A token's work, for comparison with the machine's peaks.
  double prefill_flops = 0;  // mean over the prompt, its attention included
  double decode_bytes = 0;   // weights and, at the end of the test, cache
};

// Random tokens; the text of it does not change the speed. Throws ContextFull.
SpeedResult measure_speed(Generator& generator,
                          const SpeedOptions& options,
                          const std::function<void(int64_t done, int64_t all)>& on_repetition);

}  // namespace adze::infer
