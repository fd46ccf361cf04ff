#include "cli/store_commands.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <iostream>
#include <optional>

#include <unistd.h>

#include "cli/terminal.h"
#include "core/error.h"
#include "data/model_store.h"

namespace adze::cli {
namespace {

struct PullOptions {
  std::string name;
  data::HubOptions hub;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("name", self.name, "name to store it under; without it, made from the model's");
    visit("", self.hub, "");
    visit("", self.common, "");
  }
};

nlohmann::ordered_json model_json(const data::StoredModel& model) {
  auto files = nlohmann::ordered_json::array();
  for (const data::StoredFile& file : model.files) {
    files.push_back({{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  const bool single = !model.is_folder && !model.files.empty();
  return {
      {"name", model.name},
      {"path", model.path.string()},
      {"bytes", model.bytes},
      {"sha256", single ? nlohmann::ordered_json(model.files[0].sha256) : nlohmann::ordered_json()},
      {"source", model.source},
      {"files", files}};
}

volatile std::sig_atomic_t interrupted = 0;

// The first Ctrl-C ends a transfer in order, the second the program.
void catch_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = SA_RESETHAND;
  ::sigaction(SIGINT, &action, nullptr);
}

std::optional<size_t> ask_for_file(const std::vector<data::HubFile>& files) {
  size_t width = 0;
  for (const data::HubFile& file : files) {
    width = std::max(width, printable(file.path).size());
  }
  for (size_t i = 0; i < files.size(); ++i) {
    write_notice(fmt::format("{:>3}  {:<{}}  {:>9}",
                             i + 1,
                             printable(files[i].path),
                             width,
                             bytes_text(files[i].bytes)));
  }
  std::string line;
  while (true) {
    std::cerr << fmt::format("which one, 1 to {}? ", files.size()) << std::flush;
    if (!std::getline(std::cin, line)) {
      std::cerr << '\n';
      return std::nullopt;
    }
    size_t number = 0;
    const auto [end, failure] = std::from_chars(line.data(), line.data() + line.size(), number);
    if (failure == std::errc() && end == line.data() + line.size() && number >= 1 &&
        number <= files.size()) {
      return number - 1;
    }
  }
}

int pull(const std::vector<std::string>& arguments) {
  PullOptions options;
  std::string model;
  const core::CommandLine line{
      .name = "pull",
      .summary =
          "Fetch a model, or add one that is on this machine without copying it; checks "
          "the sha256.",
      .options = core::list_options(options),
      .positionals = {
          {"NAME|OWNER/NAME|PATH",
           &model,
           "a known name (smollm2-135m), OWNER/NAME[@REVISION][:FILE] on a hub, a GGUF file or a "
           "Hugging Face folder"}}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.hub.validate();
  data::PullRequest request;
  request.argument = model;
  request.name = options.name;
  request.hub = options.hub;
  request.notice = write_notice;
  request.stopped = [] { return interrupted != 0; };
  if (::isatty(STDIN_FILENO) != 0 && ::isatty(STDERR_FILENO) != 0) {
    request.choose = ask_for_file;
  }
  if (data::parse_hub_name(model)) {
    catch_interrupt();
  }
  const data::StoredModel pulled = data::ModelStore().pull(request);
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
  if (!begin(line, arguments, options)) {
    return 0;
  }
  const data::ModelStore store;
  const std::vector<data::StoredModel> models = store.list();
  for (const data::UnfinishedPull& pull : store.unfinished()) {
    write_notice(
        fmt::format("{} is unfinished, {} are here; adze pull goes on, adze remove {} "
                    "drops it",
                    pull.name,
                    bytes_text(pull.bytes),
                    pull.name));
  }
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
  size_t name_width = 0;
  size_t source_width = 0;
  for (const data::StoredModel& model : models) {
    name_width = std::max(name_width, model.name.size());
    source_width = std::max(source_width, printable(model.source).size());
  }
  std::string text;
  for (const data::StoredModel& model : models) {
    text += fmt::format("{:<{}}  {:>9}  {:<{}}  {}\n",
                        model.name,
                        name_width,
                        bytes_text(model.bytes),
                        printable(model.source),
                        source_width,
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
      .summary = "Remove a model from the list; what was added by its path stays where it was.",
      .options = core::list_options(options),
      .positionals = {{"NAME", &name, "a name from adze list"}}};
  if (!begin(line, arguments, options)) {
    return 0;
  }
  data::ModelStore().remove(name);
  if (options.json) {
    write_json_line({{"removed", name}});
  }
  return 0;
}

}  // namespace

core::Command pull_command() {
  return {"pull", "Fetch a model by name, or add one by its path", pull};
}
core::Command list_command() {
  return {"list", "List the models that are here", list};
}
core::Command remove_command() {
  return {"remove", "Remove a model from the list", remove};
}

}  // namespace adze::cli
