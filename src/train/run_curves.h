#pragma once
// Curves of training runs: from their metrics, as one SVG.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/run_catalogue.h"

namespace adze::train {

// Rows of a run's metrics.jsonl, or those within its last `bytes`; none where its folder is gone.
std::vector<nlohmann::json> metric_rows(const CataloguedRun& run);
std::vector<nlohmann::json> newest_metric_rows(const CataloguedRun& run, int64_t bytes);

// The newest number under a name, or null.
nlohmann::ordered_json newest(const std::vector<nlohmann::json>& rows, std::string_view name);

// Which curves.
struct CurveChoice {
  std::string metric = "loss";  // a name in metrics.jsonl
  std::string axis = "step";    // step, tokens or seconds
  double smoothing = 0;         // [0, 1), weight of earlier values

  void validate() const;  // throws core::InvalidOption
};

struct Curve {
  std::string name;
  std::vector<double> x;  // rising
  std::vector<double> y;  // finite
};

// smoothing in [0, 1): weight of what came before in a running mean (its start corrected).
std::vector<double> smoothed(const std::vector<double>& values, double smoothing);

Curve curve_of(const CataloguedRun& run, const CurveChoice& choice);

// At most 1,000 points a curve are drawn. Without any point the picture says so.
std::string draw_curves(const std::vector<Curve>& curves,
                        const std::string& x_title,
                        const std::string& y_title);

}  // namespace adze::train
