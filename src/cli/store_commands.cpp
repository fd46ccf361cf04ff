#include "cli/store_commands.h"

#include <algorithm>

#include "cli/terminal.h"
#include "core/error.h"
#include "data/model_store.h"

namespace adze::cli {
namespace {

struct PullOptions {
  std::string name;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("name", self.name, "name for a file; without it, made from the file's name");
    visit("", self.common, "");
  }
};

nlohmann::ordered_json model_json(const data::StoredModel& model) {
  return {{"name", model.name},
          {"path", model.path.string()},
          {"bytes", model.bytes},
          {"sha256", model.sha256},
          {"source", model.source}};
}

int pull(const std::vector<std::string>& arguments) {
  PullOptions options;
  std::string model;
  const core::CommandLine line{
      .name = "pull",
      .summary = "Fetch a model by name, or add a GGUF file without copying it; checks the sha256.",
      .options = core::list_options(options),
      .positionals = {{"NAME|FILE", &model, "a known name (smollm2-135m) or a GGUF file"}}};
  if (!core::parse_command_line(line, arguments)) {
    return 0;
  }
  apply(options.common);
  const data::StoredModel pulled = data::ModelStore().pull(model, options.name, write_notice);
  if (options.common.json) {
    write_json_line(model_json(pulled));
  } else {
    write_output(pulled.path.string() + "\n");
  }
  return 0;
}

int list(const std::vector<std::string>& arguments) {
  core::CommonOptions options;
  const core::CommandLine line{.name = "list",
                               .summary = "List the models that are here.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!core::parse_command_line(line, arguments)) {
    return 0;
  }
  apply(options);
  const std::vector<data::StoredModel> models = data::ModelStore().list();
  if (options.json) {
    auto rows = nlohmann::ordered_json::array();
    for (const data::StoredModel& model : models) {
      rows.push_back(model_json(model));
      rows.back()["problem"] =
          model.problem.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(model.problem);
    }
    write_json_line({{"models", rows}});
    return 0;
  }
  if (models.empty()) {
    write_notice("no models yet; get one with: adze pull smollm2-135m");
  }
  size_t width = 0;
  for (const data::StoredModel& model : models) {
    width = std::max(width, model.name.size());
  }
  std::string text;
  for (const data::StoredModel& model : models) {
    text += fmt::format("{:<{}}  {:>9}  {}\n",
                        model.name,
                        width,
                        bytes_text(model.bytes),
                        printable(model.problem.empty() ? model.path.string() : model.problem));
  }
  write_output(text);
  return 0;
}

int remove(const std::vector<std::string>& arguments) {
  core::CommonOptions options;
  std::string name;
  const core::CommandLine line{
      .name = "remove",
      .summary = "Remove a model from the list; a file added by its path stays where it was.",
      .options = core::list_options(options),
      .positionals = {{"NAME", &name, "a name from adze list"}}};
  if (!core::parse_command_line(line, arguments)) {
    return 0;
  }
  apply(options);
  data::ModelStore().remove(name);
  if (options.json) {
    write_json_line({{"removed", name}});
  }
  return 0;
}

}  // namespace

core::Command pull_command() {
  return {"pull", "Fetch a model by name, or add a GGUF file", pull};
}
core::Command list_command() {
  return {"list", "List the models that are here", list};
}
core::Command remove_command() {
  return {"remove", "Remove a model from the list", remove};
}

}  // namespace adze::cli
