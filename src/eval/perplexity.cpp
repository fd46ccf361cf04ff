#include "eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "infer/append_tokens.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"
#include "model/forward.h"

namespace adze::eval {
namespace {

// Rows of logits held at a time: 64 x 49,152 x 4 bytes = 12.6 MB.
constexpr int64_t kLogitRows = 64;
constexpr int64_t kChunk = 512;

struct Window {
  int64_t begin;         // first token
  int64_t end;           // one past the last
  int64_t first_scored;  // tokens [first_scored, end) are scored, each by the row before it
};

std::vector<Window> plan_windows(int64_t tokens, int64_t window, const PerplexityOptions& options) {
  std::vector<Window> windows;
  const auto full = [&] {
    return options.chunks > 0 && static_cast<int64_t>(windows.size()) == options.chunks;
  };
  if (options.protocol == "llama.cpp") {
    // Row j predicts token j + 1; rows window / 2 .. window - 2 count.
    for (int64_t begin = 0; begin + window <= tokens && !full(); begin += window) {
      windows.push_back({begin, begin + window, begin + window / 2 + 1});
    }
    return windows;
  }
  const int64_t stride = options.stride > 0 ? options.stride : std::max<int64_t>(1, window / 2);
  int64_t scored = 1;  // the first token has no row before it
  for (int64_t begin = 0; scored < tokens && !full(); begin += stride) {
    const int64_t end = std::min(begin + window, tokens);
    windows.push_back({begin, end, scored});
    scored = end;
  }
  return windows;
}

// Appends the losses of the window's scored tokens.
void score_window(infer::Generator& generator,
                  std::span<const int32_t> tokens,
                  std::optional<int32_t> begin_of_text,
                  const Window& window,
                  std::vector<float>& losses) {
  std::vector<int32_t> input(tokens.begin() + window.begin, tokens.begin() + window.end);
  if (begin_of_text) {
    input.front() = *begin_of_text;
  }
  kv::Sequence sequence = generator.new_sequence();
  const model::Model& model = generator.model();
  infer::append_tokens(model,
                       generator.rotation(),
                       sequence,
                       input,
                       kChunk,
                       [&](int64_t first, const at::Tensor& hidden) {
                         // Row r of this chunk predicts token window.begin + first + r + 1.
                         const int64_t offset = window.begin + first + 1;
                         int64_t row = std::max<int64_t>(0, window.first_scored - offset);
                         const int64_t last = std::min(hidden.size(0), window.end - offset);
                         while (row < last) {
                           const int64_t rows = std::min(kLogitRows, last - row);
                           const at::Tensor logits =
                               model::logits(model, hidden.narrow(0, row, rows));
                           const size_t known = losses.size();
                           losses.resize(known + static_cast<size_t>(rows));
                           kernels::softmax_cross_entropy(logits.const_data_ptr<float>(),
                                                          tokens.data() + offset + row,
                                                          rows,
                                                          logits.size(1),
                                                          losses.data() + known);
                           row += rows;
                         }
                       });
}

PerplexityResult summarise(const std::vector<float>& losses, int64_t windows) {
  const auto count = static_cast<double>(losses.size());
  double mean = 0;
  for (const float loss : losses) {
    mean += static_cast<double>(loss) / count;
  }
  double variance = 0;
  for (const float loss : losses) {
    variance += std::pow(static_cast<double>(loss) - mean, 2) / std::max(1.0, count - 1);
  }
  if (!std::isfinite(mean)) {
    throw core::error(
        "perplexity", "expected finite losses, got {}; the weights are damaged", mean);
  }
  return {.perplexity = std::exp(mean),
          .standard_error = std::exp(mean) * std::sqrt(variance / count),
          .tokens = static_cast<int64_t>(losses.size()),
          .windows = windows};
}

}  // namespace

void PerplexityOptions::validate() const {
  if (protocol != "sliding" && protocol != "llama.cpp") {
    throw core::InvalidOption("protocol", protocol, "sliding or llama.cpp");
  }
  if (chunks < 0) {
    throw core::InvalidOption("chunks", std::to_string(chunks), "1 or more, or 0 for all");
  }
}

PerplexityResult perplexity(infer::Generator& generator,
                            std::span<const int32_t> tokens,
                            std::optional<int32_t> begin_of_text,
                            int64_t window,
                            const PerplexityOptions& options,
                            const PerplexityProgress& on_window) {
  options.validate();
  if (window < 2 || window > generator.context()) {
    throw core::InvalidOption("context",
                              std::to_string(window),
                              fmt::format("2 to {} tokens a window", generator.context()));
  }
  if (options.stride < 0 || options.stride >= window) {
    throw core::InvalidOption("stride",
                              std::to_string(options.stride),
                              fmt::format("1 to {}, or 0 for half a window", window - 1));
  }
  const auto windows = plan_windows(static_cast<int64_t>(tokens.size()), window, options);
  if (windows.empty() || static_cast<int64_t>(windows.size()) < options.chunks) {
    throw core::error("perplexity",
                      "expected a text of at least {} tokens, got {}",
                      std::max<int64_t>(options.chunks, 1) * window,
                      tokens.size());
  }
  std::vector<float> losses;
  double total = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    const size_t known = losses.size();
    score_window(generator, tokens, begin_of_text, windows[i], losses);
    for (size_t j = known; j < losses.size(); ++j) {
      total += static_cast<double>(losses[j]);
    }
    on_window(static_cast<int64_t>(i) + 1,
              static_cast<int64_t>(windows.size()),
              std::exp(total / static_cast<double>(std::max<size_t>(losses.size(), 1))));
  }
  return summarise(losses, static_cast<int64_t>(windows.size()));
}

}  // namespace adze::eval
