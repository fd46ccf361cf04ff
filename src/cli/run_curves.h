#pragma once
// Curves of training runs as one SVG.

#include <string>
#include <vector>

namespace adze::cli {

struct Curve {
  std::string name;
  std::vector<double> x;  // rising
  std::vector<double> y;  // finite
};

// smoothing in [0, 1): weight of what came before in a running mean (its start corrected).
std::vector<double> smoothed(const std::vector<double>& values, double smoothing);

// At most 1,000 points a curve are drawn. Without any point the picture says so.
std::string draw_curves(const std::vector<Curve>& curves,
                        const std::string& x_title,
                        const std::string& y_title);

}  // namespace adze::cli
