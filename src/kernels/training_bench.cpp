// What a training step of the 15.7 M-parameter model of bench/train.py is made of: its products,
// its attention, the updates of its parameters. "share" is of the peak that machine_peaks measures
// first: multiply-adds for products and attention, read bandwidth for updates.

#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kernels/dense_matmul/dense_matmul.h"
#include "kernels/machine_peaks/bench_peaks.h"
#include "kernels/optimizer_update/optimizer_update.h"
#include "kernels/packed_attention/packed_attention.h"
#include "kernels/random_floats.h"

namespace adze::kernels {
namespace {

void count(benchmark::State& state, const char* unit, double amount, double peak) {
  const auto calls = static_cast<double>(state.iterations());
  state.counters[unit] = benchmark::Counter(calls * amount / 1e9, benchmark::Counter::kIsRate);
  state.counters["share"] = benchmark::Counter(calls * amount / peak, benchmark::Counter::kIsRate);
}

// rows x outputs x columns: y = x Wᵀ, the gradient of x, that of W.
void products(benchmark::State& state, int kind, int64_t rows, int64_t outputs, int64_t columns) {
  const double peak = bench_peaks().flops_per_second;
  std::vector<float> x = random_floats(rows * columns, 1, 1);
  std::vector<float> w = random_floats(outputs * columns, 2, 1);
  std::vector<float> y = random_floats(rows * outputs, 3, 1);
  const MatrixView x_view{x.data(), columns, 1};
  const MatrixView y_view{y.data(), outputs, 1};
  DenseMatmul product{
      x_view, {w.data(), 1, columns}, y.data(), outputs, rows, outputs, columns, false};
  if (kind == 1) {
    product = {y_view, {w.data(), columns, 1}, x.data(), columns, rows, columns, outputs, false};
  } else if (kind == 2) {
    product = {{y.data(), 1, outputs}, x_view, w.data(), columns, outputs, columns, rows, true};
  }
  for (auto _ : state) {
    dense_matmul(product);
    benchmark::ClobberMemory();
  }
  count(state, "GFLOP/s", 2.0 * static_cast<double>(rows * outputs * columns), peak);
}

// 6 query heads, 2 kv heads of 64, causal; scores that are seen are counted.
void attention(benchmark::State& state, bool backward, int64_t sequences, int64_t length) {
  const double peak = bench_peaks().flops_per_second;
  const int64_t rows = sequences * length;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i <= sequences; ++i) {
    starts.push_back(i * length);
  }
  const auto query = random_floats(rows * 384, 1, 1);
  const auto key = random_floats(rows * 128, 2, 1);
  const auto value = random_floats(rows * 128, 3, 1);
  const auto pull = random_floats(rows * 384, 4, 1);
  std::vector<float> result(query.size());
  std::vector<float> log_sums(static_cast<size_t>(rows * 6));
  std::vector<float> of_query(query.size());
  std::vector<float> of_key(key.size());
  std::vector<float> of_value(key.size());
  const PackedAttention shape{
      query.data(), key.data(), value.data(), starts, 6, 2, 64, 0.125F, 0, true};
  packed_attention(shape, result.data(), log_sums.data());
  for (auto _ : state) {
    if (backward) {
      packed_attention_gradient({shape,
                                 result.data(),
                                 log_sums.data(),
                                 pull.data(),
                                 of_query.data(),
                                 of_key.data(),
                                 of_value.data()});
    } else {
      packed_attention(shape, result.data(), log_sums.data());
    }
    benchmark::ClobberMemory();
  }
  const double scores = static_cast<double>(sequences * length * (length + 1) / 2 * 6);
  count(state, "GFLOP/s", scores * 64 * 2 * (backward ? 5 : 2), peak);
}

void adamw(benchmark::State& state) {
  const double peak = bench_peaks().read_bytes_per_second;
  const int64_t count_of_values = int64_t{1} << 24;
  std::vector<float> value = random_floats(count_of_values, 1, 1);
  const std::vector<float> gradient = random_floats(count_of_values, 2, 1);
  std::vector<float> first(value.size());
  std::vector<float> second(value.size());
  const ParameterSpan span{
      value.data(), gradient.data(), first.data(), second.data(), count_of_values, true};
  int64_t step = 0;
  for (auto _ : state) {
    adamw_update({1e-3, 0.9, 0.95, 1e-8, 0.1, 1, ++step}, {&span, 1});
    benchmark::ClobberMemory();
  }
  count(state, "GB/s", 28.0 * static_cast<double>(count_of_values), peak);
}

[[maybe_unused]] const bool registered = [] {
  struct Size {
    int64_t rows, outputs, columns;
  };
  for (const Size& size : {Size{8192, 384, 384},
                           Size{8192, 128, 384},
                           Size{8192, 1024, 384},
                           Size{8192, 384, 1024},
                           Size{512, 8192, 384},
                           Size{1024, 8192, 384}}) {
    const char* kinds[] = {"forward", "of_x", "of_weight"};
    for (int kind = 0; kind < 3; ++kind) {
      const std::string name = "dense_matmul/" + std::to_string(size.rows) + "x" +
                               std::to_string(size.outputs) + "x" + std::to_string(size.columns) +
                               "/" + kinds[kind];
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) {
                                     products(state, kind, size.rows, size.outputs, size.columns);
                                   })
          ->UseRealTime()
          ->MinTime(0.3);
    }
  }
  for (const auto& [sequences, length] : {std::pair{16, 512}, {4, 2048}, {1, 8192}}) {
    for (const bool backward : {false, true}) {
      const std::string name = "packed_attention/" + std::to_string(sequences) + "x" +
                               std::to_string(length) + (backward ? "/backward" : "/forward");
      benchmark::RegisterBenchmark(
          name.c_str(),
          [backward = backward, sequences = sequences, length = length](benchmark::State& state) {
            attention(state, backward, sequences, length);
          })
          ->UseRealTime()
          ->MinTime(0.3);
    }
  }
  benchmark::RegisterBenchmark("adamw_update", adamw)->UseRealTime();
  return true;
}();

}  // namespace
}  // namespace adze::kernels
