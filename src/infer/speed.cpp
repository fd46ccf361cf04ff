#include "infer/speed.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/rng.h"
#include "infer/append_tokens.h"
#include "model/forward.h"

namespace adze::infer {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size) {
  const core::Rng rng(1);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(
        static_cast<int32_t>(rng.at(static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocab_size)));
  }
  return tokens;
}

// Tokens a second for `tokens`, in chunks, with the logits of each chunk's last row.
double time_tokens(Generator& generator,
                   kv::Sequence& sequence,
                   std::span<const int32_t> tokens,
                   int64_t chunk) {
  const auto start = Clock::now();
  append_tokens(generator.model(),
                generator.rotation(),
                sequence,
                tokens,
                chunk,
                [&](int64_t, const at::Tensor& hidden) {
                  model::logits(generator.model(), hidden.narrow(0, hidden.size(0) - 1, 1));
                });
  return static_cast<double>(tokens.size()) /
         std::chrono::duration<double>(Clock::now() - start).count();
}

// Multiply-adds of a token in all layers but their attention, 2 operations each.
double product_flops(const model::Model& model) {
  double flops = 0;
  for (const model::Layer& layer : model.layers) {
    for (const tensor::LinearWeight* weight : model::Model::matrices(layer)) {
      flops += 2 * static_cast<double>(weight->outputs()) * static_cast<double>(weight->columns());
    }
  }
  return flops;
}

// Weights that each token reads: an embedding is looked up only.
int64_t weight_bytes_read(const model::Model& model) {
  return model.weight_bytes() - (model.output == model.embedding ? 0 : model.embedding->bytes());
}

void require(std::string_view field, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    throw core::InvalidOption(field, std::to_string(value), fmt::format("{} to {}", least, most));
  }
}

}  // namespace

void SpeedOptions::validate() const {
  constexpr int64_t kMost = 1 << 24;
  require("prompt-tokens", prompt_tokens, 0, kMost);
  require("decode-tokens", decode_tokens, 0, kMost);
  require("depth", depth, 0, kMost);
  require("repetitions", repetitions, 1, 1000);
}

SpeedResult measure_speed(Generator& generator,
                          const SpeedOptions& options,
                          const std::function<void(int64_t, int64_t)>& on_repetition) {
  options.validate();
  const int64_t longest = options.depth + std::max(options.prompt_tokens, options.decode_tokens);
  kv::Sequence sequence = generator.new_sequence();
  if (!sequence.policy().endless() && longest > generator.context()) {
    throw ContextFull(longest, generator.context());
  }
  const auto tokens = random_tokens(longest, generator.model().spec.vocab_size);
  const std::span<const int32_t> all(tokens);
  const auto depth = all.first(static_cast<size_t>(options.depth));
  const auto after = all.subspan(static_cast<size_t>(options.depth));
  const model::Model& model = generator.model();
  SpeedResult result;
  const double seen =
      static_cast<double>(options.depth) + static_cast<double>(options.prompt_tokens) / 2;
  result.prefill_flops =
      product_flops(model) +
      4 * seen *
          static_cast<double>(model.spec.num_layers * model.spec.heads * model.spec.head_dim);
  if (!depth.empty()) {
    sequence.begin_turn(options.depth, options.decode_tokens);
    result.depth = time_tokens(generator, sequence, depth, generator.prefill_chunk());
  }
  for (int64_t repetition = 0; repetition <= options.repetitions; ++repetition) {
    const bool counts = repetition > 0;
    if (options.prompt_tokens > 0) {
      kv::Sequence fork = sequence.fork();
      fork.begin_turn(options.prompt_tokens, 0);
      const double speed = time_tokens(generator,
                                       fork,
                                       after.first(static_cast<size_t>(options.prompt_tokens)),
                                       generator.prefill_chunk());
      if (counts) {
        result.prefill.push_back(speed);
      }
    }
    if (options.decode_tokens > 0) {
      kv::Sequence fork = sequence.fork();
      const double speed =
          time_tokens(generator, fork, after.first(static_cast<size_t>(options.decode_tokens)), 1);
      if (counts) {
        result.decode.push_back(speed);
      }
      result.cache_bytes = fork.bytes();
    }
    on_repetition(repetition, options.repetitions);
  }
  result.decode_bytes = static_cast<double>(weight_bytes_read(model) + result.cache_bytes);
  return result;
}

}  // namespace adze::infer
