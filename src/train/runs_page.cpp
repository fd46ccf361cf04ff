#include "train/runs_page.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "core/error.h"
#include "core/markup.h"

namespace adze::train {
namespace {

constexpr size_t kMostListed = 500;  // the newest ones

int hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  c = static_cast<char>(c | 32);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// As HTML forms encode: + is a space, %41 an A; a % that is none stays.
std::string decoded(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (text[i] == '%' && high >= 0 && low >= 0) {
      result += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      result += text[i] == '+' ? ' ' : text[i];
    }
  }
  return result;
}

template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(number) : std::nullopt;
}

void take_field(RunsPageChoice& choice, const std::string& name, const std::string& value) {
  if (name == "run") {
    const auto number = parse_number<int64_t>(value);
    if (!number || *number < 1) {
      throw core::InvalidOption("run", value, "the number of a run");
    }
    choice.runs.push_back(*number);
    if (choice.runs.size() > RunsPageChoice::kMostRuns) {
      throw core::InvalidOption(
          "run", "more", fmt::format("at most {} runs", RunsPageChoice::kMostRuns));
    }
  } else if (name == "metric") {
    choice.curves.metric = value;
  } else if (name == "axis") {
    choice.curves.axis = value;
  } else if (name == "smoothing") {
    const auto number = parse_number<double>(value);
    if (!number) {
      throw core::InvalidOption("smoothing", value, "[0, 1)");
    }
    choice.curves.smoothing = *number;
  } else {
    throw core::InvalidOption("query", name, "run, metric, axis or smoothing");
  }
}

std::string shown(const nlohmann::ordered_json& value) {
  if (value.is_null()) {
    return "";
  }
  if (value.is_number_float()) {
    return fmt::format("{:.6g}", value.get<double>());
  }
  return core::escape_markup(
      value.is_string() ? value.get<std::string>()
                        : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string cell(const nlohmann::ordered_json& value) {
  return "<td>" + shown(value) + "</td>";
}

std::string list_row(const CataloguedRun& run, bool chosen) {
  constexpr int64_t kEnd = 256 << 10;  // bytes of metrics, some thousand rows
  const auto rows = newest_metric_rows(run, kEnd);
  std::string row = fmt::format(
      "<tr><td><label><input type=\"checkbox\" name=\"run\" value=\"{0}\"{1}> {0}</label></td>",
      run.number,
      chosen ? " checked" : "");
  row += cell(run.started) + cell(run.state);
  for (const char* name : {"step", "loss", "validation_loss", "tokens_per_second"}) {
    row += cell(newest(rows, name));
  }
  return row + cell(run.folder) + "</tr>\n";
}

// Options and results in which the runs differ, a column a run.
std::string comparison(const std::vector<CataloguedRun>& runs) {
  std::string head = "<tr><th></th>";
  for (const CataloguedRun& run : runs) {
    head += fmt::format("<th>{}</th>", run.number);
  }
  std::string table;
  const auto add = [&](nlohmann::ordered_json CataloguedRun::*part) {
    std::vector<std::string> names;
    std::set<std::string> known;
    for (const CataloguedRun& run : runs) {
      if (!(run.*part).is_object()) {
        continue;
      }
      for (const auto& [name, value] : (run.*part).items()) {
        if (known.insert(name).second) {
          names.push_back(name);
        }
      }
    }
    for (const std::string& name : names) {
      std::vector<nlohmann::ordered_json> values;
      for (const CataloguedRun& run : runs) {
        const auto& all = run.*part;
        values.push_back(all.is_object() && all.contains(name) ? all.at(name)
                                                               : nlohmann::ordered_json());
      }
      const bool equal = std::all_of(
          values.begin(), values.end(), [&](const auto& value) { return value == values[0]; });
      if (equal && values.size() > 1) {
        continue;
      }
      table += "<tr><th>" + core::escape_markup(name) + "</th>";
      for (const auto& value : values) {
        table += cell(value);
      }
      table += "</tr>\n";
    }
  };
  add(&CataloguedRun::config);
  add(&CataloguedRun::summary);
  return fmt::format("<h2>{}</h2>\n<table>{}</tr>\n{}</table>\n",
                     runs.size() > 1 ? "What differs" : "Options and results",
                     head,
                     table);
}

std::string axis_options(const std::string& chosen) {
  std::string options;
  for (const char* axis : {"step", "tokens", "seconds"}) {
    options += fmt::format("<option{}>{}</option>", chosen == axis ? " selected" : "", axis);
  }
  return options;
}

std::vector<CataloguedRun> chosen_runs(const std::vector<CataloguedRun>& runs,
                                       const RunsPageChoice& choice) {
  if (choice.runs.empty()) {
    return runs.empty() ? runs : std::vector{runs.back()};
  }
  std::vector<CataloguedRun> chosen;
  for (const int64_t number : choice.runs) {
    const auto run = std::find_if(
        runs.begin(), runs.end(), [&](const CataloguedRun& r) { return r.number == number; });
    if (run == runs.end()) {
      throw core::InvalidOption("run", fmt::format("{}", number), "the number of a run");
    }
    chosen.push_back(*run);
  }
  return chosen;
}

}  // namespace

RunsPageChoice parse_runs_page(std::string_view query) {
  RunsPageChoice choice;
  while (!query.empty()) {
    const std::string_view field = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(field.size() + 1, query.size()));
    const size_t equals = std::min(field.find('='), field.size());
    if (!field.empty()) {
      take_field(choice,
                 decoded(field.substr(0, equals)),
                 decoded(field.substr(std::min(equals + 1, field.size()))));
    }
  }
  choice.curves.validate();
  return choice;
}

std::string runs_page(const std::vector<CataloguedRun>& runs, const RunsPageChoice& choice) {
  const std::vector<CataloguedRun> chosen = chosen_runs(runs, choice);
  std::vector<Curve> curves;
  for (const CataloguedRun& run : chosen) {
    curves.push_back(curve_of(run, choice.curves));
  }
  std::string list;
  const size_t listed = std::min(runs.size(), kMostListed);
  for (size_t i = 0; i < listed; ++i) {
    const CataloguedRun& run = runs[runs.size() - 1 - i];
    const bool checked = std::any_of(chosen.begin(), chosen.end(), [&](const CataloguedRun& r) {
      return r.number == run.number;
    });
    list += list_row(run, checked);
  }
  if (listed < runs.size()) {
    list += fmt::format("<tr><td colspan=\"8\">{} older ones</td></tr>\n", runs.size() - listed);
  }
  return fmt::format(
      R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Training runs</title><style>
:root {{ color-scheme: light dark; --line: #8884; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
svg {{ width: 100%; max-width: 60rem; height: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }}
td {{ overflow-wrap: anywhere; }} label {{ margin-right: 1rem; white-space: nowrap; }}
</style></head><body><h1>Training runs</h1>
{}<form method="get" action="runs">
<p><label>Metric <input name="metric" value="{}" list="metrics"></label>
<datalist id="metrics"><option>loss<option>validation_loss<option>gradient_norm<option>tokens_per_second</datalist>
<label>by <select name="axis">{}</select></label>
<label>Smoothing <input name="smoothing" type="number" min="0" max="0.999" step="any" value="{}"></label>
<button>Draw the chosen runs</button></p>
<table><tr><th>Run</th><th>Started</th><th>State</th><th>Step</th><th>Loss</th><th>Validation</th><th>Tokens/s</th><th>Folder</th></tr>
{}</table></form>
{}</body></html>
)",
      chosen.empty() ? "<p>No runs yet: adze train makes them.</p>\n"
                     : draw_curves(curves, choice.curves.axis, choice.curves.metric),
      core::escape_markup(choice.curves.metric),
      axis_options(choice.curves.axis),
      choice.curves.smoothing,
      list,
      chosen.empty() ? "" : comparison(chosen));
}

}  // namespace adze::train
