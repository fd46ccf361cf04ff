#include "kernels/machine_peaks/machine_peaks.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/machine_peaks/machine_peaks.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Enough independent chains to hide latency x throughput on every core so far (5 cycles x 2).
constexpr int kChains = 12;

float read_all(const float* values, int64_t count) {
  Vector sums[8];
  for (auto& sum : sums) {
    sum = hn::Zero(kFloats);
  }
  for (int64_t i = 0; i + 8 * kLanes <= count; i += 8 * kLanes) {
    for (int64_t j = 0; j < 8; ++j) {
      sums[j] = hn::Add(sums[j], hn::LoadU(kFloats, values + i + j * kLanes));
    }
  }
  Vector total = sums[0];
  for (int j = 1; j < 8; ++j) {
    total = hn::Add(total, sums[j]);
  }
  return hn::GetLane(hn::SumOfLanes(kFloats, total));
}

// Returns the flops done.
double multiply_add(int64_t rounds, float* sink) {
  Vector sums[kChains];
  for (auto& sum : sums) {
    sum = hn::Zero(kFloats);
  }
  const Vector factor = hn::Set(kFloats, *sink);
  for (int64_t round = 0; round < rounds; ++round) {
    for (auto& sum : sums) {
      sum = hn::MulAdd(factor, factor, sum);
    }
  }
  for (const auto& sum : sums) {
    *sink += hn::GetLane(sum);
  }
  return 2.0 * static_cast<double>(rounds * kChains * kLanes);
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {

HWY_EXPORT(read_all);
HWY_EXPORT(multiply_add);

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

MachinePeaks measure_machine_peaks(double seconds) {
  MachinePeaks peaks{};
  const int threads = core::num_threads();
  // 256 MiB: several times the largest last-level cache share of a small machine.
  std::vector<float> memory(int64_t{1} << 26, 1.0F);
  const auto count = static_cast<int64_t>(memory.size());
  std::vector<float> sinks(static_cast<size_t>(threads) * 64, 1e-3F);
  for (const auto start = Clock::now(); seconds_since(start) < seconds;) {
    const auto begin = Clock::now();
    core::parallel_region(threads, [&](int thread) {
      const int64_t first = count * thread / threads;
      sinks[static_cast<size_t>(thread) * 64] += HWY_DYNAMIC_DISPATCH(read_all)(
          memory.data() + first, count * (thread + 1) / threads - first);
    });
    peaks.read_bytes_per_second = std::max(
        peaks.read_bytes_per_second, static_cast<double>(memory.size() * 4) / seconds_since(begin));
  }
  for (const auto start = Clock::now(); seconds_since(start) < seconds;) {
    std::vector<double> flops(static_cast<size_t>(threads));
    const auto begin = Clock::now();
    core::parallel_region(threads, [&](int thread) {
      flops[static_cast<size_t>(thread)] = HWY_DYNAMIC_DISPATCH(multiply_add)(
          2'000'000, sinks.data() + static_cast<size_t>(thread) * 64);
    });
    double total = 0;
    for (const double part : flops) {
      total += part;
    }
    peaks.flops_per_second = std::max(peaks.flops_per_second, total / seconds_since(begin));
  }
  return peaks;
}

}  // namespace adze::kernels
#endif
