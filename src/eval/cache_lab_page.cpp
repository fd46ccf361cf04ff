#include "eval/cache_lab_page.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/error.h"
#include "core/markup.h"

namespace adze::eval {
namespace {

constexpr double kWidth = 860;
constexpr double kHeight = 480;
constexpr double kLeft = 70;
constexpr double kBottom = 60;
constexpr double kMargin = 24;

std::string label_of(const CacheLabRow& row) {
  return fmt::format("{} · {} · {}", row.policy, row.store, row.budget);
}

// From a value's range to pixels; ranges are widened so that no point lies on the frame.
struct Axis {
  double least;
  double most;
  double begin;
  double end;
  double operator()(double value) const {
    return begin + (end - begin) * (value - least) / (most - least);
  }
};

Axis axis(double least, double most, double begin, double end) {
  const double room = std::max((most - least) * 0.06, 1e-6);
  return {least - room, most + room, begin, end};
}

// Bytes a token to the right (each grid line half of the next), perplexity upwards.
std::string chart(const std::vector<CacheLabRow>& rows) {
  std::vector<CacheLabRow> drawn;
  for (const CacheLabRow& row : rows) {
    if (row.perplexity && row.cache_bytes_per_token) {
      drawn.push_back(row);
    }
  }
  if (drawn.empty()) {
    return "";
  }
  const auto bytes = [](const CacheLabRow& row) { return std::log2(*row.cache_bytes_per_token); };
  const auto loss = [](const CacheLabRow& row) { return std::log(*row.perplexity); };
  const auto [fewest, largest] = std::minmax_element(
      drawn.begin(), drawn.end(), [&](auto& a, auto& b) { return bytes(a) < bytes(b); });
  const auto [best, worst] = std::minmax_element(
      drawn.begin(), drawn.end(), [&](auto& a, auto& b) { return loss(a) < loss(b); });
  const Axis x = axis(bytes(*fewest), bytes(*largest), kLeft, kWidth - kMargin);
  const Axis y = axis(loss(*best), loss(*worst), kHeight - kBottom, kMargin);
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"perplexity against bytes a token\">\n",
      kWidth,
      kHeight);
  for (double power = std::ceil(x.least); power <= x.most; ++power) {
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\"/>"
        "<text class=\"tick\" x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4:.0f}</text>\n",
        x(power),
        kMargin,
        kHeight - kBottom,
        kHeight - kBottom + 18,
        std::exp2(power));
  }
  for (int line = 0; line <= 5; ++line) {
    const double value = y.least + (y.most - y.least) * line / 5;
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>"
        "<text class=\"tick\" x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.2f}</text>\n",
        kLeft,
        kWidth - kMargin,
        y(value),
        kLeft - 8,
        y(value) + 4,
        std::exp(value));
  }
  std::sort(drawn.begin(), drawn.end(), [&](auto& a, auto& b) { return bytes(a) < bytes(b); });
  std::string frontier;
  for (const CacheLabRow& row : drawn) {
    if (row.pareto) {
      frontier += fmt::format("{:.1f},{:.1f} ", x(bytes(row)), y(loss(row)));
    }
  }
  svg += fmt::format("<polyline class=\"frontier\" points=\"{}\"/>\n", frontier);
  for (const CacheLabRow& row : drawn) {
    svg += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"><title>{}: {:.3f} at {:.0f} "
        "bytes a token</title></circle>\n",
        row.pareto ? "best" : "other",
        x(bytes(row)),
        y(loss(row)),
        core::escape_markup(label_of(row)),
        *row.perplexity,
        *row.cache_bytes_per_token);
    if (row.pareto) {
      svg += fmt::format("<text class=\"name\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
                         x(bytes(row)) + 8,
                         y(loss(row)) - 7,
                         core::escape_markup(label_of(row)));
    }
  }
  svg += fmt::format(
      "<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">cache bytes a token</text>"
      "<text class=\"axis\" x=\"14\" y=\"{}\" text-anchor=\"middle\" "
      "transform=\"rotate(-90 14 {})\">perplexity</text>\n</svg>\n",
      (kLeft + kWidth) / 2,
      kHeight - 14,
      kHeight / 2,
      kHeight / 2);
  return svg;
}

std::string cell(const std::optional<double>& value, int digits) {
  return value ? fmt::format("<td>{:.{}f}</td>", *value, digits) : "<td>–</td>";
}

std::string table(const std::vector<CacheLabRow>& rows) {
  std::string text =
      "<table><thead><tr><th>policy</th><th>store</th><th>budget</th><th>perplexity</th>"
      "<th>top-1</th><th>KL</th><th>needle</th><th>bytes a token</th><th>prefill tokens/s</th>"
      "<th>decode tokens/s</th></tr></thead><tbody>\n";
  for (const CacheLabRow& row : rows) {
    text += fmt::format("<tr{}><td>{}{}</td><td>{}</td><td>{}</td>",
                        row.pareto ? " class=\"best\"" : "",
                        core::escape_markup(row.policy),
                        row.reapplied ? " (reapplied)" : "",
                        core::escape_markup(row.store),
                        row.budget);
    if (!row.skipped.empty()) {
      text += fmt::format("<td colspan=\"7\">skipped: {}</td></tr>\n",
                          core::escape_markup(row.skipped));
      continue;
    }
    text += cell(row.perplexity, 3) + cell(row.top1_agreement, 3) + cell(row.kl, 4) +
            cell(row.needle_recall, 2) + cell(row.cache_bytes_per_token, 0) +
            cell(row.prefill_tokens_per_second, 0) + cell(row.decode_tokens_per_second, 1) +
            "</tr>\n";
  }
  return text + "</tbody></table>\n";
}

// Figures of a row, with their names in JSON.
template <class Row, class Visit>
void visit_figures(Row& row, const Visit& visit) {
  visit("perplexity", row.perplexity);
  visit("top1_agreement", row.top1_agreement);
  visit("kl", row.kl);
  visit("needle_recall", row.needle_recall);
  visit("cache_bytes_per_token", row.cache_bytes_per_token);
  visit("prefill_tokens_per_second", row.prefill_tokens_per_second);
  visit("decode_tokens_per_second", row.decode_tokens_per_second);
}

}  // namespace

nlohmann::ordered_json cache_lab_json(const CacheLabResult& result) {
  auto rows = nlohmann::ordered_json::array();
  for (const CacheLabRow& row : result.rows) {
    nlohmann::ordered_json object = {
        {"policy", row.policy}, {"store", row.store}, {"budget", row.budget}};
    if (!row.skipped.empty()) {
      object["skipped"] = row.skipped;
      rows.push_back(std::move(object));
      continue;
    }
    visit_figures(row, [&object](const char* name, const std::optional<double>& value) {
      if (value) {
        object[name] = *value;
      }
    });
    object["pareto"] = row.pareto;
    if (row.reapplied) {
      object["reapplied"] = true;
    }
    rows.push_back(std::move(object));
  }
  return {{"model", result.model},
          {"context", result.context},
          {"chunks", result.chunks},
          {"rows", rows}};
}

CacheLabResult read_cache_lab(const nlohmann::json& json, const std::string& file) {
  try {
    CacheLabResult result{.model = json.at("model"),
                          .context = json.at("context"),
                          .chunks = json.at("chunks"),
                          .rows = {}};
    for (const nlohmann::json& object : json.at("rows")) {
      CacheLabRow row;
      row.policy = object.at("policy");
      row.store = object.at("store");
      row.budget = object.at("budget");
      row.skipped = object.value("skipped", "");
      row.pareto = object.value("pareto", false);
      row.reapplied = object.value("reapplied", false);
      visit_figures(row, [&](const char* name, std::optional<double>& value) {
        if (object.contains(name)) {
          value = object.at(name).get<double>();
        }
      });
      // The chart has logarithms of both.
      if (row.perplexity.value_or(1) <= 0 || row.cache_bytes_per_token.value_or(1) <= 0) {
        throw core::error("cache-lab",
                          "{}: expected perplexities and bytes above 0, got others for {}, {}",
                          file,
                          row.policy,
                          row.store);
      }
      result.rows.push_back(std::move(row));
    }
    return result;
  } catch (const nlohmann::json::exception& error) {
    throw core::error("cache-lab",
                      "{}: expected what adze cache-lab --json writes, got other JSON: {}",
                      file,
                      error.what());
  }
}

std::string cache_lab_page(const CacheLabResult& result) {
  const std::string title = fmt::format(
      "Cache settings of {}, {} windows of {} tokens", result.model, result.chunks, result.context);
  return fmt::format(R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{0}</title><style>
:root {{ color-scheme: light dark; --line: #8884; --best: #0a7d4f; --other: #7a7f87; }}
@media (prefers-color-scheme: dark) {{ :root {{ --best: #4cc38a; --other: #9aa0a8; }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
svg {{ width: 100%; height: auto; }} .grid {{ stroke: var(--line); }}
text {{ fill: currentColor; font-size: 12px; }} .axis {{ font-size: 13px; }}
.frontier {{ fill: none; stroke: var(--best); stroke-width: 1.5; stroke-dasharray: 5 4; }}
circle.best {{ fill: var(--best); }} circle.other {{ fill: none; stroke: var(--other); stroke-width: 1.5; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }}
tr.best td {{ color: var(--best); font-weight: 600; }}
</style></head><body><h1>{0}</h1>
<p>Filled points lie on the frontier: no other setting has both fewer bytes and a lower perplexity.</p>
{1}{2}</body></html>
)",
                     core::escape_markup(title),
                     chart(result.rows),
                     table(result.rows));
}

}  // namespace adze::eval
