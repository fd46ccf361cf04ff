// One call of the sampler over a vocabulary of SmolLM2's size. Argument: spread of the logits; 1 is
// a nearly uniform distribution, 4 a peaked one as a trained model gives.

#include <cmath>

#include <benchmark/benchmark.h>

#include "infer/sampler.h"

namespace adze::infer {
namespace {

constexpr int64_t kVocabSize = 49152;

std::vector<float> normal_logits(double spread) {
  core::Rng random(7);
  std::vector<float> logits(kVocabSize);
  for (float& logit : logits) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random.next_uniform()));
    logit = static_cast<float>(spread * radius * std::cos(6.283185307 * random.next_uniform()));
  }
  return logits;
}

void measure(benchmark::State& state, const SamplingOptions& options) {
  const std::vector<float> logits = normal_logits(static_cast<double>(state.range(0)));
  const std::vector<int32_t> prompt(512, 11);
  const std::vector<int32_t> generated(256, 12);
  const Sampler sampler(options, kVocabSize);
  SamplerWorkspace workspace;
  uint64_t index = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sampler.sample(logits, {prompt, generated}, index++, workspace).token);
  }
}

SamplingOptions unfiltered() {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

void greedy(benchmark::State& state) {
  SamplingOptions options;
  options.temperature = 0;
  measure(state, options);
}
void defaults(benchmark::State& state) {
  measure(state, {});
}
void top_p(benchmark::State& state) {
  SamplingOptions options = unfiltered();
  options.top_p = 0.95;
  measure(state, options);
}
void everything(benchmark::State& state) {
  SamplingOptions options;
  options.repetition_penalty = 1.1;
  options.frequency_penalty = 0.1;
  options.top_k = 0;
  options.logit_bias = {"5:-inf"};
  options.logprobs = 5;
  measure(state, options);
}
void no_filter(benchmark::State& state) {
  measure(state, unfiltered());
}

BENCHMARK(greedy)->Arg(1)->Arg(4)->Unit(benchmark::kMicrosecond);
BENCHMARK(defaults)->Arg(1)->Arg(4)->Unit(benchmark::kMicrosecond);
BENCHMARK(top_p)->Arg(1)->Arg(4)->Unit(benchmark::kMicrosecond);
BENCHMARK(everything)->Arg(1)->Arg(4)->Unit(benchmark::kMicrosecond);
BENCHMARK(no_filter)->Arg(1)->Arg(4)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace adze::infer
