#pragma once
// What this machine can do at most, measured: the ceiling that benchmarks report their share of.

namespace adze::kernels {

struct MachinePeaks {
  double read_bytes_per_second;  // all threads streaming from memory far larger than the caches
  double flops_per_second;  // all threads, f32 fused multiply-adds from registers, 2 flops each
};

// Takes about `seconds` for each of the two; the best of several short runs counts, since other
// programs can only slow a run down.
MachinePeaks measure_machine_peaks(double seconds);

}  // namespace adze::kernels
