#pragma once
// Peaks for benchmarks: measured once a program, before the first that asks.

#include "kernels/machine_peaks/machine_peaks.h"

namespace adze::kernels {

inline const MachinePeaks& bench_peaks() {
  static const MachinePeaks measured = measure_machine_peaks(1.0);
  return measured;
}

}  // namespace adze::kernels
