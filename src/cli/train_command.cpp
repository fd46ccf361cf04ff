// adze train: a model learns from token data.

#include <csignal>

#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "cli/train_commands.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/model_store.h"
#include "train/trainer.h"

namespace adze::cli {
namespace {

struct TrainCommandOptions {
  train::TrainOptions training;
  std::string out;
  bool resume = false;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("out", self.out, "folder of the run: checkpoints, metrics.jsonl, the trained model");
    visit("resume", self.resume, "go on from the newest checkpoint in the folder");
    visit("", self.training, "");
    visit("", self.common, "");
  }
};

volatile std::sig_atomic_t interrupted = 0;

// The first signal ends the run behind its step, with a checkpoint; the second the program.
void catch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = SA_RESETHAND;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

int train(const std::vector<std::string>& arguments) {
  TrainCommandOptions options;
  const core::CommandLine line{
      .name = "train",
      .summary = "Train a model on token data, from nothing or from a model.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.training.validate();
  if (options.out.empty()) {
    throw core::UsageError("[train] expected --out, got none");
  }
  catch_signals();
  std::optional<core::Progress> progress;
  train::TrainHooks hooks;
  hooks.notice = write_notice;
  hooks.stopped = [] { return interrupted != 0; };
  hooks.on_step = [&](int64_t step, double loss, double speed) {
    if (!progress) {
      progress.emplace("train", options.training.steps, "steps");
    }
    progress->update(step, fmt::format("loss {:.4f}, {:.0f} tokens/s", loss, speed));
  };
  const auto model = options.training.model ? data::ModelStore().resolve(*options.training.model)
                                            : std::filesystem::path();
  const train::TrainSummary summary =
      train::train(options.training, model, options.out, options.resume, hooks);
  progress.reset();
  if (!summary.finished) {
    write_notice("stopped; adze train --resume goes on");
    return 1;
  }
  if (summary.json.is_null()) {  // process 0 speaks for all
    return 0;
  }
  if (options.common.json) {
    write_json_line(summary.json);
  } else {
    const char* result = summary.json.contains("adapter") ? "adapter" : "model";
    write_output(fmt::format("{}\n", summary.json[result].get<std::string>()));
  }
  return 0;
}

}  // namespace

core::Command train_command() {
  return {"train", "Train a model on token data", train};
}

}  // namespace adze::cli
