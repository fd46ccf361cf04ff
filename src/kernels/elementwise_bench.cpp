// Norms, rotation and activation over the rows of a prefill chunk and over one decoded row. "share"
// is of the machine's read bandwidth, counting what is read and written: rows of a chunk stay in
// the caches, so that it may exceed 1.

#include <cmath>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/activation/activation.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/machine_peaks/bench_peaks.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"

namespace adze::kernels {
namespace {

constexpr int64_t kColumns = 2048;

std::vector<float> numbers(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::sin(static_cast<float>(i));
  }
  return values;
}

// `arrays`: of rows x columns floats that a call reads or writes.
void report(benchmark::State& state, int64_t arrays) {
  const double bytes =
      static_cast<double>(state.iterations() * arrays * state.range(0) * kColumns) * sizeof(float);
  const auto rate = [](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsRate);
  };
  state.counters["GB/s"] = rate(bytes / 1e9);
  state.counters["share"] = rate(bytes / bench_peaks().read_bytes_per_second);
}

void rms_norm_rows(benchmark::State& state) {
  const int64_t rows = state.range(0);
  auto x = numbers(rows * kColumns);
  const auto delta = numbers(rows * kColumns);
  const auto weight = numbers(kColumns);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    rms_norm({.x = x.data(),
              .delta = delta.data(),
              .sum = x.data(),
              .weight = weight.data(),
              .y = y.data(),
              .rows = rows,
              .columns = kColumns,
              .epsilon = 1e-5F});
    benchmark::DoNotOptimize(y.data());
  }
  report(state, 4);
}

void layer_norm_rows(benchmark::State& state) {
  const int64_t rows = state.range(0);
  auto x = numbers(rows * kColumns);
  const auto delta = numbers(rows * kColumns);
  const auto weight = numbers(kColumns);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    layer_norm({.x = x.data(),
                .delta = delta.data(),
                .sum = x.data(),
                .weight = weight.data(),
                .bias = weight.data(),
                .y = y.data(),
                .rows = rows,
                .columns = kColumns,
                .epsilon = 1e-5F});
    benchmark::DoNotOptimize(y.data());
  }
  report(state, 4);
}

void rope_rows(benchmark::State& state) {
  constexpr int64_t kHeadDim = 64;
  const int64_t rows = state.range(0);
  RopeTable table(kHeadDim, 10000);
  table.reserve(rows);
  std::vector<int64_t> positions(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    positions[static_cast<size_t>(row)] = row;
  }
  auto x = numbers(rows * kColumns);
  for (auto _ : state) {
    rope(table, x.data(), positions.data(), rows, kColumns / kHeadDim, x.data());
    benchmark::DoNotOptimize(x.data());
  }
  report(state, 2);
}

void activate_rows(benchmark::State& state, Activation activation) {
  const int64_t rows = state.range(0);
  const auto gate = numbers(rows * kColumns);
  const auto up = numbers(rows * kColumns);
  std::vector<float> y(gate.size());
  for (auto _ : state) {
    activate(activation, gate.data(), up.data(), rows, kColumns, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  report(state, 3);
}

BENCHMARK(rms_norm_rows)->ArgName("rows")->Arg(1)->Arg(256)->UseRealTime();
BENCHMARK(layer_norm_rows)->ArgName("rows")->Arg(1)->Arg(256)->UseRealTime();
BENCHMARK(rope_rows)->ArgName("rows")->Arg(1)->Arg(256)->UseRealTime();
BENCHMARK_CAPTURE(activate_rows, silu, Activation::kSilu)
    ->ArgName("rows")
    ->Arg(1)
    ->Arg(256)
    ->UseRealTime();
BENCHMARK_CAPTURE(activate_rows, gelu, Activation::kGelu)
    ->ArgName("rows")
    ->Arg(1)
    ->Arg(256)
    ->UseRealTime();

}  // namespace
}  // namespace adze::kernels
