#pragma once
// The machine's peaks, measured once and kept under the cache folder.

#include "kernels/machine_peaks/machine_peaks.h"

namespace adze::cli {

// Measures now (about 4 s) and keeps the result; a cache folder that cannot be written is no error.
kernels::MachinePeaks measure_and_keep_peaks();

// What was kept for this CPU, instruction set and number of threads; else measures.
kernels::MachinePeaks known_peaks();

}  // namespace adze::cli
