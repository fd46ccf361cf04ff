// Decode (one row) and prefill (a page's worth of rows at the end of the text) at several depths.
// GB/s counts the tokens that the row sees, GFLOP/s those of all rows; "share" is of the peaks that
// the machine has just shown. With a window, depth must not matter.

#include <algorithm>
#include <cmath>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/machine_peaks/bench_peaks.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::kernels {
namespace {

// Pages of random f16 keys and values, of so many layers that none stays in the cache.
constexpr int64_t kLayers = 30;

struct Text {
  AttentionShape shape;
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::vector<const std::byte*>> pages{kLayers};

  Text(const AttentionShape& s, int64_t tokens) : shape(s) {
    core::Rng rng(1);
    const auto width = static_cast<size_t>(shape.kv_heads * shape.head_dim * kPageTokens);
    std::vector<float> key(width);
    std::vector<float> value(width);
    for (size_t i = 0; i < width; ++i) {
      key[i] = static_cast<float>(rng.next_uniform() * 4 - 2);
      value[i] = static_cast<float>(rng.next_uniform() * 2 - 1);
    }
    for (auto& layer : pages) {
      for (int64_t token = 0; token < tokens; token += kPageTokens) {
        storage.emplace_back(static_cast<size_t>(attention_page_bytes(shape, PageType::kF16)));
        write_page_tokens(
            shape, PageType::kF16, key.data(), value.data(), 0, kPageTokens, storage.back().data());
        layer.push_back(storage.back().data());
      }
    }
  }
};

void attend(benchmark::State& state) {
  AttentionShape shape{};
  shape.heads = state.range(0);
  shape.kv_heads = state.range(1);
  shape.head_dim = state.range(2);
  shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  shape.softcap = static_cast<float>(state.range(6));
  const int64_t rows = state.range(3);
  const int64_t depth = state.range(4);
  const int64_t window = state.range(5) == 0 ? depth : state.range(5);
  const Text text(shape, depth);
  const auto width = static_cast<size_t>(rows * shape.heads * shape.head_dim);
  std::vector<float> query(width, 0.01F);
  std::vector<float> output(width);
  std::vector<int32_t> first_visible(static_cast<size_t>(rows));
  double visible = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t seen = std::min(window, depth - rows + row + 1);
    first_visible[static_cast<size_t>(row)] = static_cast<int32_t>(depth - rows + row + 1 - seen);
    visible += static_cast<double>(seen);
  }
  size_t layer = 0;
  for (auto _ : state) {
    const auto* pages = text.pages[layer++ % kLayers].data();
    AttentionSequence sequence{};
    sequence.query = query.data();
    sequence.output = output.data();
    sequence.rows = rows;
    sequence.first_rank = depth - rows;
    sequence.pages = pages;
    sequence.own_pages = pages;
    sequence.first_visible = state.range(5) == 0 ? nullptr : first_visible.data();
    paged_attention({shape, PageType::kF16, PageType::kF16, {}}, {&sequence, 1});
    benchmark::DoNotOptimize(output.data());
  }
  const auto calls = static_cast<double>(state.iterations());
  if (rows == 1) {
    const double elements = 2 * visible * static_cast<double>(shape.kv_heads * shape.head_dim);
    state.counters["GB/s"] =
        benchmark::Counter(calls * elements * 2 / 1e9, benchmark::Counter::kIsRate);
    state.counters["share"] = benchmark::Counter(
        calls * elements * 2 / bench_peaks().read_bytes_per_second, benchmark::Counter::kIsRate);
  } else {
    // Two products of a multiplication and an addition for each visible token.
    const double flops = 4 * visible * static_cast<double>(shape.heads * shape.head_dim);
    state.counters["GFLOP/s"] =
        benchmark::Counter(calls * flops / 1e9, benchmark::Counter::kIsRate);
    state.counters["share"] = benchmark::Counter(calls * flops / bench_peaks().flops_per_second,
                                                 benchmark::Counter::kIsRate);
  }
}
BENCHMARK(attend)
    ->ArgNames({"heads", "kv_heads", "head_dim", "rows", "depth", "window", "softcap"})
    ->Args({9, 3, 64, 1, 512, 0, 0})
    ->Args({9, 3, 64, 1, 7000, 0, 0})
    ->Args({9, 3, 64, 1, 7000, 512, 0})
    ->Args({9, 3, 64, 512, 512, 0, 0})
    ->Args({9, 3, 64, 512, 7000, 0, 0})
    ->Args({9, 3, 64, 512, 7000, 512, 0})
    ->Args({8, 4, 256, 1, 7000, 0, 0})
    ->Args({8, 4, 256, 1, 7000, 0, 50})
    ->Args({8, 4, 256, 512, 2048, 0, 0})
    ->Args({8, 4, 256, 512, 2048, 0, 50})
    ->UseRealTime();

}  // namespace
}  // namespace adze::kernels
