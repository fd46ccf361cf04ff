// Decode (one row) and prefill (a page's worth of rows at the end of the text) at several depths.
// GB/s counts the tokens that the row sees, GFLOP/s those of all rows; "share" is of the peaks that
// the machine has just shown, of the one that a call comes closer to: bytes of the cache read, or
// multiply-adds in f32. With a window, depth must not matter.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/huge_memory.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/kv_codec/grouped_codec.h"
#include "kernels/machine_peaks/bench_peaks.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::kernels {
namespace {

// Forms of sealed pages, by the argument `store`.
enum Store : uint8_t { kHalf, kBytes, kInt4, kKivi4, kKivi2 };

std::shared_ptr<const PageCodec> make_codec(Store store, const AttentionShape& shape) {
  switch (store) {
    case kInt4:
      return make_int4_codec(shape.kv_heads, shape.head_dim);
    case kKivi4:
      return make_kivi_codec(shape.kv_heads, shape.head_dim, 4);
    case kKivi2:
      return make_kivi_codec(shape.kv_heads, shape.head_dim, 2);
    default:
      return nullptr;
  }
}

// Pages of random keys and values, of so many layers that none stays in the cache.
constexpr int64_t kLayers = 30;

struct Text {
  AttentionShape shape;
  PageType type;
  std::shared_ptr<const PageCodec> codec;
  int64_t page_bytes;
  std::shared_ptr<std::byte> storage;
  std::vector<std::vector<const std::byte*>> pages{kLayers};

  Text(const AttentionShape& s, Store store, int64_t tokens)
      : shape(s),
        type(store == kHalf    ? PageType::kF16
             : store == kBytes ? PageType::kInt8
                               : PageType::kCoded),
        codec(make_codec(store, s)),
        page_bytes(codec != nullptr ? codec->page_bytes() : attention_page_bytes(s, type)) {
    core::Rng rng(1);
    const auto width = static_cast<size_t>(shape.kv_heads * shape.head_dim * kPageTokens);
    std::vector<float> key(width);
    std::vector<float> value(width);
    for (size_t i = 0; i < width; ++i) {
      key[i] = static_cast<float>(rng.next_uniform() * 4 - 2);
      value[i] = static_cast<float>(rng.next_uniform() * 2 - 1);
    }
    std::vector<std::byte> page(static_cast<size_t>(page_bytes));
    if (codec != nullptr) {
      codec->encode(key.data(), value.data(), 0, nullptr, page.data());
    } else {
      write_page_tokens(shape, type, key.data(), value.data(), 0, kPageTokens, page.data());
    }
    const int64_t count = (tokens + kPageTokens - 1) / kPageTokens;
    storage = core::allocate_huge(kLayers * count * page_bytes);
    std::byte* next = storage.get();
    for (auto& layer : pages) {
      for (int64_t i = 0; i < count; ++i) {
        layer.push_back(std::copy(page.begin(), page.end(), next) - page_bytes);
        next += page_bytes;
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
  const Text text(shape, static_cast<Store>(state.range(7)), depth);
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
    paged_attention({shape, text.type, text.type, {}, text.codec.get()}, {&sequence, 1});
    benchmark::DoNotOptimize(output.data());
  }
  const auto calls = static_cast<double>(state.iterations());
  // Two products of a multiplication and an addition for each visible token.
  const double flops = 4 * visible * static_cast<double>(shape.heads * shape.head_dim);
  const double bytes = (rows == 1 ? visible : static_cast<double>(depth)) / kPageTokens *
                       static_cast<double>(text.page_bytes);
  const double least_seconds =
      std::max(flops / bench_peaks().flops_per_second, bytes / bench_peaks().read_bytes_per_second);
  if (rows == 1) {
    state.counters["GB/s"] = benchmark::Counter(calls * bytes / 1e9, benchmark::Counter::kIsRate);
  } else {
    state.counters["GFLOP/s"] =
        benchmark::Counter(calls * flops / 1e9, benchmark::Counter::kIsRate);
  }
  state.counters["share"] = benchmark::Counter(calls * least_seconds, benchmark::Counter::kIsRate);
}
BENCHMARK(attend)
    ->ArgNames({"heads", "kv_heads", "head_dim", "rows", "depth", "window", "softcap", "store"})
    ->Args({9, 3, 64, 1, 512, 0, 0, 0})
    ->Args({9, 3, 64, 1, 7000, 0, 0, kHalf})
    ->Args({9, 3, 64, 1, 7000, 0, 0, kBytes})
    ->Args({9, 3, 64, 1, 7000, 0, 0, kInt4})
    ->Args({9, 3, 64, 1, 7000, 0, 0, kKivi4})
    ->Args({9, 3, 64, 1, 7000, 0, 0, kKivi2})
    ->Args({8, 8, 64, 1, 7000, 0, 0, kKivi4})
    ->Args({32, 8, 64, 1, 2000, 0, 0, kKivi4})
    ->Args({9, 3, 64, 512, 7000, 0, 0, kKivi4})
    ->Args({9, 3, 64, 1, 7000, 512, 0, 0})
    ->Args({9, 3, 64, 512, 512, 0, 0, 0})
    ->Args({9, 3, 64, 512, 7000, 0, 0, 0})
    ->Args({9, 3, 64, 512, 7000, 512, 0, 0})
    ->Args({8, 4, 256, 1, 7000, 0, 0, 0})
    ->Args({8, 4, 256, 1, 7000, 0, 50, 0})
    ->Args({8, 4, 256, 512, 2048, 0, 0, 0})
    ->Args({8, 4, 256, 512, 2048, 0, 50, 0})
    ->UseRealTime();

}  // namespace
}  // namespace adze::kernels
