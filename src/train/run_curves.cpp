#include "train/run_curves.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "core/error.h"
#include "core/markup.h"

namespace adze::train {
namespace {

constexpr double kWidth = 760;
constexpr double kHeight = 420;
constexpr double kLeft = 64;
constexpr double kTop = 20;
constexpr double kRight = 20;
constexpr double kBottom = 44;
constexpr size_t kMostPoints = 1000;
constexpr std::array<const char*, 8> kColours = {
    "#2f6f9f", "#c0632f", "#3d8b4f", "#8a4fa3", "#b03a48", "#7a6a20", "#3a8f8f", "#555555"};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
  double share(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

// A round distance that gives some five ticks: 1, 2 or 5 times a power of ten.
double tick_step(const Range& range) {
  const double rough = std::max(range.high - range.low, 1e-12) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) {
      return factor * power;
    }
  }
  return 10 * power;
}

// XML allows no control characters, not even as entities.
std::string escaped(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 32; }, ' ');
  return core::escape_markup(text);
}

// From byte `first` on, which may lie within a row.
std::vector<nlohmann::json> rows_from(std::ifstream& file, int64_t first) {
  std::vector<nlohmann::json> rows;
  std::string line;
  file.seekg(first);
  if (first > 0) {
    std::getline(file, line);
  }
  while (std::getline(file, line)) {
    auto row = nlohmann::json::parse(line, nullptr, false);
    if (row.is_object()) {
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

std::ifstream metrics_of(const CataloguedRun& run) {
  return std::ifstream(std::filesystem::path(run.folder) / "metrics.jsonl", std::ios::binary);
}

std::optional<double> number_in(const nlohmann::json& row, std::string_view name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_number() ? std::optional(found->get<double>())
                                                  : std::nullopt;
}

}  // namespace

std::vector<nlohmann::json> metric_rows(const CataloguedRun& run) {
  std::ifstream file = metrics_of(run);
  return rows_from(file, 0);
}

std::vector<nlohmann::json> newest_metric_rows(const CataloguedRun& run, int64_t bytes) {
  std::ifstream file = metrics_of(run);
  file.seekg(0, std::ios::end);
  return rows_from(file, std::max<int64_t>(0, static_cast<int64_t>(file.tellg()) - bytes));
}

nlohmann::ordered_json newest(const std::vector<nlohmann::json>& rows, std::string_view name) {
  for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
    const auto found = row->find(name);
    if (found != row->end() && found->is_number()) {
      return *found;
    }
  }
  return nullptr;
}

void CurveChoice::validate() const {
  if (axis != "step" && axis != "tokens" && axis != "seconds") {
    throw core::InvalidOption("axis", axis, "step, tokens or seconds");
  }
  if (!(smoothing >= 0 && smoothing < 1)) {
    throw core::InvalidOption("smoothing", fmt::format("{}", smoothing), "[0, 1)");
  }
}

Curve curve_of(const CataloguedRun& run, const CurveChoice& choice) {
  Curve curve;
  curve.name = fmt::format("{}  {}", run.number, run.folder);
  double seconds = 0;
  for (const auto& row : metric_rows(run)) {
    seconds += number_in(row, "seconds").value_or(0);
    if (const auto value = number_in(row, choice.metric)) {
      curve.x.push_back(choice.axis == "seconds" ? seconds
                                                 : number_in(row, choice.axis).value_or(0));
      curve.y.push_back(*value);
    }
  }
  curve.y = smoothed(curve.y, choice.smoothing);
  return curve;
}

std::vector<double> smoothed(const std::vector<double>& values, double smoothing) {
  std::vector<double> result;
  double sum = 0;
  double weight = 0;
  for (const double value : values) {
    sum = smoothing * sum + (1 - smoothing) * value;
    weight = smoothing * weight + (1 - smoothing);
    result.push_back(sum / weight);
  }
  return result;
}

std::string draw_curves(const std::vector<Curve>& curves,
                        const std::string& x_title,
                        const std::string& y_title) {
  Range across;
  Range up;
  for (const Curve& curve : curves) {
    for (size_t i = 0; i < curve.x.size(); ++i) {
      across.take(curve.x[i]);
      up.take(curve.y[i]);
    }
  }
  const auto x_of = [&](double x) { return kLeft + across.share(x) * (kWidth - kLeft - kRight); };
  const auto y_of = [&](double y) {
    return kHeight - kBottom - up.share(y) * (kHeight - kTop - kBottom);
  };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" "
      "aria-label=\"{} by {}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kWidth,
      kHeight + 16 * static_cast<double>(curves.size()),
      escaped(y_title),
      escaped(x_title));
  if (across.empty()) {
    return svg + fmt::format("<text x=\"{}\" y=\"{}\">no {} yet</text>\n</svg>\n",
                             kLeft,
                             kTop + 20,
                             escaped(y_title));
  }
  const auto for_ticks = [](const Range& range, auto&& body) {
    const double step = tick_step(range);
    for (double tick = std::ceil(range.low / step) * step; tick <= range.high + step * 1e-9;
         tick += step) {
      body(tick);
    }
  };
  for_ticks(up, [&](double tick) {
    svg += fmt::format(
        "<path d=\"M{:.1f} {:.1f}H{:.1f}\" stroke=\"#ddd\"/><text x=\"{:.1f}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{:.6g}</text>\n",
        kLeft,
        y_of(tick),
        kWidth - kRight,
        kLeft - 6,
        y_of(tick) + 4,
        tick);
  });
  for_ticks(across, [&](double tick) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.10g}</text>\n",
                       x_of(tick),
                       kHeight - kBottom + 16,
                       tick);
  });
  svg += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n"
      "<text x=\"6\" y=\"14\">{}</text>\n",
      kWidth - kRight,
      kHeight - 10,
      escaped(x_title),
      escaped(y_title));
  for (size_t i = 0; i < curves.size(); ++i) {
    const Curve& curve = curves[i];
    const char* colour = kColours[i % kColours.size()];
    const size_t step = (curve.x.size() + kMostPoints - 1) / kMostPoints;
    std::string path;
    for (size_t point = 0; point < curve.x.size(); point += step) {
      path += fmt::format(
          "{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x_of(curve.x[point]), y_of(curve.y[point]));
    }
    const double y = kHeight + 16 * static_cast<double>(i);
    svg += fmt::format(
        "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n"
        "<path d=\"M{:.1f} {:.1f}h20\" stroke=\"{}\" stroke-width=\"3\"/>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
        path,
        colour,
        kLeft,
        y - 4,
        colour,
        kLeft + 26,
        y,
        escaped(curve.name));
  }
  return svg + "</svg>\n";
}

}  // namespace adze::train
