#pragma once
// Training runs as a page: which there are, curves of some of them, how those differ. No script,
// nothing fetched; names of folders and metrics may be hostile.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/run_catalogue.h"
#include "train/run_curves.h"

namespace adze::train {

struct RunsPageChoice {
  static constexpr size_t kMostRuns = 16;

  std::vector<int64_t> runs;  // numbers in the catalogue, at most kMostRuns; empty: the newest
  CurveChoice curves;
};

// What follows the ? of the page's address: run (repeated), metric, axis, smoothing, encoded as a
// form sends them. Throws core::InvalidOption: an unknown name, a value that is out of range.
RunsPageChoice parse_runs_page(std::string_view query);

// Reads the metrics of the chosen runs in full and the ends of the others': up to seconds.
// Throws core::InvalidOption: a number that is none of theirs.
std::string runs_page(const std::vector<CataloguedRun>& runs, const RunsPageChoice& choice);

}  // namespace adze::train
