// One row against a matrix far larger than the caches (decode: bound by reading it), and many rows
// (prefill: bound by multiply-adds). "share" is of the peak that machine_peaks measures first.

#include <array>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/machine_peaks/bench_peaks.h"
#include "kernels/packed_matmul/packed_matmul.h"

namespace adze::kernels {
namespace {

using core::TensorType;

// Random bytes, with each 16-bit float tame: the exponent bits of every byte pair are cut, which
// leaves valid codes.
std::vector<std::byte> random_panels(TensorType type, int64_t outputs, int64_t columns) {
  core::Rng rng(1);
  std::vector<std::byte> stored(static_cast<size_t>(core::row_bytes(type, columns)));
  for (std::byte& byte : stored) {
    byte = static_cast<std::byte>(rng.next_uint64()) & std::byte{0xBF};
  }
  std::array<const std::byte*, kPanelRows> rows{};
  rows.fill(stored.data());
  std::vector<std::byte> panels(static_cast<size_t>(packed_bytes(type, outputs, columns)));
  const int64_t bytes = packed_bytes(type, kPanelRows, columns);
  core::parallel_for(outputs / kPanelRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      pack_panel(type, columns, rows, panels.data() + panel * bytes);
    }
  });
  return panels;
}

void multiply(benchmark::State& state,
              TensorType type,
              Arithmetic arithmetic,
              int64_t rows,
              int64_t outputs) {
  const int64_t columns = 2048;
  const auto panels = random_panels(type, outputs, columns);
  const std::vector<float> x(static_cast<size_t>(rows * columns), 0.5F);
  std::vector<float> y(static_cast<size_t>(rows * outputs));
  const MatmulOutput output{{type, outputs, columns, panels.data(), arithmetic}, y.data(), outputs};
  const double read_peak = bench_peaks().read_bytes_per_second;
  const double flop_peak = bench_peaks().flops_per_second;
  for (auto _ : state) {
    packed_matmul(x.data(), rows, columns, {&output, 1});
    benchmark::DoNotOptimize(y.data());
  }
  const auto calls = static_cast<double>(state.iterations());
  const auto rate = [&](double amount) {
    return benchmark::Counter(calls * amount, benchmark::Counter::kIsRate);
  };
  if (rows <= 8) {
    const auto bytes = static_cast<double>(panels.size());
    state.counters["GB/s"] = rate(bytes / 1e9);
    state.counters["share"] = rate(bytes / read_peak);
  } else {
    const double flops = 2.0 * static_cast<double>(rows * outputs * columns);
    state.counters["GFLOP/s"] = rate(flops / 1e9);
    // Of the f32 peak: over 1 where integers do the work.
    state.counters["share"] = rate(flops / flop_peak);
  }
}

// Converting at load instead of in the kernel is what a type's panels save; packing is the price.
void pack(benchmark::State& state, TensorType type) {
  const int64_t columns = 2048;
  const std::vector<std::byte> stored(static_cast<size_t>(core::row_bytes(type, columns)));
  std::array<const std::byte*, kPanelRows> rows{};
  rows.fill(stored.data());
  std::vector<std::byte> panel(static_cast<size_t>(packed_bytes(type, kPanelRows, columns)));
  for (auto _ : state) {
    pack_panel(type, columns, rows, panel.data());
    benchmark::DoNotOptimize(panel.data());
  }
  state.counters["weights/s"] = benchmark::Counter(
      static_cast<double>(state.iterations() * kPanelRows * columns), benchmark::Counter::kIsRate);
}

[[maybe_unused]] const bool registered = [] {
  for (uint32_t id = 0; id < 64; ++id) {
    const auto type = core::tensor_type_from_id(id);
    if (!type || !has_packed_form(*type)) {
      continue;
    }
    const std::string name(core::info(*type).name);
    for (const int64_t rows : {1, 8, 512}) {
      const int64_t outputs = rows == 512 ? 2048 : 65536;
      for (const auto arithmetic : {Arithmetic::kF32, Arithmetic::kInt8}) {
        if (arithmetic == Arithmetic::kInt8 && !has_int8_products(*type)) {
          continue;
        }
        const std::string suffix = arithmetic == Arithmetic::kInt8 ? "/int8" : "";
        benchmark::RegisterBenchmark(
            ("packed_matmul/" + name + suffix + "/rows:" + std::to_string(rows)).c_str(),
            [=](benchmark::State& state) { multiply(state, *type, arithmetic, rows, outputs); })
            ->UseRealTime();
      }
    }
    benchmark::RegisterBenchmark(("pack_panel/" + name).c_str(),
                                 [type](benchmark::State& state) { pack(state, *type); });
  }
  return true;
}();

}  // namespace
}  // namespace adze::kernels
