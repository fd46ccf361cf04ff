#pragma once
// How panels of several weights are shared out to threads.

#include <algorithm>
#include <span>

#include "core/parallel.h"
#include "kernels/packed_matmul/packed_matmul.h"

namespace adze::kernels {

// Splits all outputs' panels evenly over threads, in tiles of `tile` panels, and calls
// body(output, first panel, end panel) for each run of consecutive panels of one output.
template <class Body>
void for_panels(std::span<const MatmulOutput> outputs, int64_t tile, Body&& body) {
  const auto tile_count = [tile](const MatmulOutput& output) {
    return (output.weight.outputs + tile * kPanelRows - 1) / (tile * kPanelRows);
  };
  int64_t tiles = 0;
  for (const MatmulOutput& output : outputs) {
    tiles += tile_count(output);
  }
  core::parallel_for(tiles, 1, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // number of this output's first tile
    for (const MatmulOutput& output : outputs) {
      const int64_t count = tile_count(output);
      const int64_t from = std::max(begin, first) - first;
      const int64_t to = std::min(end, first + count) - first;
      if (from < to) {
        const int64_t panels = (output.weight.outputs + kPanelRows - 1) / kPanelRows;
        body(output, from * tile, std::min(to * tile, panels));
      }
      first += count;
    }
  });
}

}  // namespace adze::kernels
