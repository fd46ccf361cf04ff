#pragma once
// Perplexity of a text: exp of the mean loss a token, in nats.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "infer/generator.h"

namespace adze::eval {

struct PerplexityOptions {
  std::string protocol = "sliding";
  int64_t stride = 0;
  int64_t chunks = 0;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("protocol",
          self.protocol,
          "sliding (each token scored once, with up to window - stride tokens before it) or "
          "llama.cpp (disjoint windows, the second half of each is scored)");
    visit("stride", self.stride, "sliding: tokens from window to window; 0 takes half a window");
    visit("chunks", self.chunks, "windows to score; 0 scores the whole text");
  }
};

struct PerplexityResult {
  double perplexity = 0;
  double standard_error = 0;  // of the perplexity, tokens taken as independent
  int64_t tokens = 0;         // scored
  int64_t windows = 0;
};

// Called after each window with the windows done, all windows, and the perplexity so far.
using PerplexityProgress = std::function<void(int64_t, int64_t, double)>;

// window: tokens a window, at least 2. Every window starts from an empty cache with the generator's
// store and policy. begin_of_text replaces each window's first token where the model was trained
// with one. Throws core::Error: fewer tokens than a window needs; a window longer than the context.
PerplexityResult perplexity(infer::Generator& generator,
                            std::span<const int32_t> tokens,
                            std::optional<int32_t> begin_of_text,
                            int64_t window,
                            const PerplexityOptions& options,
                            const PerplexityProgress& on_window);

}  // namespace adze::eval
