// adze runs: what was trained, how it went, curves side by side.

#include "cli/terminal.h"
#include "cli/train_commands.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "train/run_catalogue.h"
#include "train/run_curves.h"

namespace adze::cli {
namespace {

using train::CataloguedRun;

nlohmann::ordered_json run_json(const CataloguedRun& run) {
  const auto rows = train::metric_rows(run);
  return {{"number", run.number},
          {"folder", run.folder},
          {"started", run.started},
          {"state", run.state},
          {"step", train::newest(rows, "step")},
          {"loss", train::newest(rows, "loss")},
          {"validation_loss", train::newest(rows, "validation_loss")},
          {"tokens_per_second", train::newest(rows, "tokens_per_second")}};
}

std::string number_text(const nlohmann::ordered_json& value, int digits) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), digits) : "-";
}

struct PlainOptions {
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.common, "");
  }
};

int list(const std::vector<std::string>& arguments) {
  PlainOptions options;
  if (!begin({.name = "runs list",
              .summary = "All training runs, the newest last.",
              .options = core::list_options(options),
              .positionals = {}},
             arguments,
             options.common)) {
    return 0;
  }
  auto all = nlohmann::ordered_json::array();
  for (const CataloguedRun& run : train::RunCatalogue().runs()) {
    all.push_back(run_json(run));
  }
  if (options.common.json) {
    write_json_line({{"catalogue", train::run_catalogue_path().string()}, {"runs", all}});
    return 0;
  }
  std::string text = "number  started               state     step      loss  validation  folder\n";
  for (const auto& run : all) {
    text += fmt::format("{:>6}  {}  {:<8} {:>5} {:>9} {:>11}  {}\n",
                        run["number"].get<int64_t>(),
                        run["started"].get<std::string>(),
                        run["state"].get<std::string>(),
                        number_text(run["step"], 0),
                        number_text(run["loss"], 4),
                        number_text(run["validation_loss"], 4),
                        printable(run["folder"].get<std::string>()));
  }
  write_output(text);
  return 0;
}

int show(const std::vector<std::string>& arguments) {
  PlainOptions options;
  std::string name;
  if (!begin({.name = "runs show",
              .summary = "One run: its options, where it stands, what it came to.",
              .options = core::list_options(options),
              .positionals = {{"RUN", &name, "number in the catalogue, or folder"}}},
             arguments,
             options.common)) {
    return 0;
  }
  const CataloguedRun run = train::RunCatalogue().find(name);
  nlohmann::ordered_json object = run_json(run);
  object["config"] = run.config;
  object["summary"] = run.summary;
  if (options.common.json) {
    write_json_line(object);
    return 0;
  }
  std::string text;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_object()) {
      text += fmt::format(
          "{:<20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  text += "\n";
  for (const auto& [key, value] : run.config.items()) {
    text += fmt::format("{:<24} {}\n", key, printable(value.dump()));
  }
  write_output(text);
  return 0;
}

struct PlotOptions {
  std::string out;
  train::CurveChoice curves;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("out", self.out, "file for the picture, an SVG");
    visit("metric",
          self.curves.metric,
          "loss, validation_loss, gradient_norm, ...: a name in metrics.jsonl");
    visit("axis", self.curves.axis, "step, tokens or seconds");
    visit("smoothing", self.curves.smoothing, "weight of earlier values, 0 to below 1");
    visit("", self.common, "");
  }
};

int plot(const std::vector<std::string>& arguments) {
  PlotOptions options;
  std::vector<std::string> names;
  if (!begin({.name = "runs plot",
              .summary = "Draws a curve of each run into one picture.",
              .options = core::list_options(options),
              .positionals = {{"RUN", &names, "numbers in the catalogue, or folders"}}},
             arguments,
             options.common)) {
    return 0;
  }
  if (options.out.empty()) {
    throw core::UsageError("[runs] expected --out, got none");
  }
  options.curves.validate();
  const train::RunCatalogue catalogue;
  std::vector<train::Curve> curves;
  auto points = nlohmann::ordered_json::array();
  for (const std::string& name : names) {
    const CataloguedRun run = catalogue.find(name);
    curves.push_back(train::curve_of(run, options.curves));
    points.push_back({{"number", run.number},
                      {"folder", run.folder},
                      {"points", curves.back().x.size()},
                      {"last",
                       curves.back().y.empty() ? nlohmann::ordered_json()
                                               : nlohmann::ordered_json(curves.back().y.back())}});
  }
  core::AtomicFile file(options.out);
  file.write(train::draw_curves(curves, options.curves.axis, options.curves.metric));
  file.commit();
  if (options.common.json) {
    write_json_line({{"out", options.out}, {"metric", options.curves.metric}, {"runs", points}});
  } else {
    write_output(options.out + "\n");
  }
  return 0;
}

}  // namespace

core::Command runs_command() {
  return command_group(
      "runs",
      "Training runs: list, show, plot",
      {{"list", "All runs", list}, {"show", "One run", show}, {"plot", "Curves of runs", plot}});
}

}  // namespace adze::cli
