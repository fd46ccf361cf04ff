// The update of one large tensor, which no cache holds from pass to pass, and of the tensors of the
// 15.7 M-parameter model of bench/train.py. All bytes of the three passes count; "share" is of the
// read bandwidth that machine_peaks measures first.

#include <cmath>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/machine_peaks/bench_peaks.h"
#include "kernels/random_floats.h"
#include "methods/fadam/fadam.h"

namespace adze::methods::fadam {
namespace {

void update(benchmark::State& state, const std::vector<int64_t>& counts) {
  const double peak = kernels::bench_peaks().read_bytes_per_second;
  int64_t all = 0;
  for (const int64_t count : counts) {
    all += count;
  }
  std::vector<float> value = kernels::random_floats(all, 1, 1);
  const std::vector<float> gradient = kernels::random_floats(all, 2, 1);
  std::vector<float> momentum(value.size());
  std::vector<float> fisher(value.size());
  std::vector<FisherSpan> tensors;
  int64_t place = 0;
  for (const int64_t count : counts) {
    tensors.push_back({value.data() + place,
                       gradient.data() + place,
                       momentum.data() + place,
                       fisher.data() + place,
                       count,
                       true});
    place += count;
  }
  const FAdamOptions options;
  int64_t step = 0;
  for (auto _ : state) {
    fadam_update(options, {.learning_rate = 1e-3, .gradient_scale = 1, .step = ++step}, tensors);
    benchmark::ClobberMemory();
  }
  const double bytes = 48.0 * static_cast<double>(all * state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share"] = benchmark::Counter(bytes / peak, benchmark::Counter::kIsRate);
}

[[maybe_unused]] const bool registered = [] {
  std::vector<int64_t> model = {8192 * 384};
  for (int layer = 0; layer < 8; ++layer) {
    for (const int64_t count :
         {384 * 384, 128 * 384, 128 * 384, 384 * 384, 1024 * 384, 1024 * 384, 384 * 1024}) {
      model.push_back(count);
    }
  }
  benchmark::RegisterBenchmark("fadam_update/one tensor of 16M", [](benchmark::State& state) {
    update(state, {1 << 24});
  })->UseRealTime();
  benchmark::RegisterBenchmark("fadam_update/tensors of 15.7M", [model](benchmark::State& state) {
    update(state, model);
  })->UseRealTime();
  return true;
}();

}  // namespace
}  // namespace adze::methods::fadam
