// adze plan: what fits, before anything is loaded.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "cli/machine_record.h"
#include "cli/model_argument.h"
#include "cli/model_commands.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "data/model_store.h"
#include "infer/plan.h"
#include "train/train_plan.h"
#include "train/trainer.h"

namespace adze::cli {
namespace {

struct PlanOptions {
  ModelOptions model;
  std::optional<std::string> memory;
  int64_t context = 0;
  int64_t sequences = 1;
  bool train = false;
  int64_t vocab_size = 0;
  train::ModelShapeOptions shape;
  train::TrainPlanRequest training;
  core::CommonOptions common;

  void validate() const {
    if (train) {
      validate_training();
      return;
    }
    if (!memory) {
      throw core::UsageError("[plan] expected --memory, got none");
    }
    if (context < 0 || context > (int64_t{1} << 30)) {
      throw core::InvalidOption(
          "context", std::to_string(context), "1 to 1073741824 tokens, or 0 for the model's own");
    }
    if (sequences < 1 || sequences > 65536) {
      throw core::InvalidOption("sequences", std::to_string(sequences), "1 to 65536");
    }
  }

  void validate_training() const {
    const auto whole = [](const char* name, int64_t value, int64_t least) {
      if (value < least || value > int64_t{1} << 40) {
        throw core::InvalidOption(name, std::to_string(value), fmt::format("{} to 2^40", least));
      }
    };
    const auto positive = [](const char* name, double value, double most) {
      if (!(value > 0 && value <= most)) {
        throw core::InvalidOption(
            name, fmt::format("{}", value), fmt::format("above 0, up to {}", most));
      }
    };
    whole("vocab-size", vocab_size, 0);
    whole("step-tokens", training.step_tokens, 1);
    whole("sequence-length", training.sequence_length, 1);
    whole("micro-batch-tokens", training.micro_batch_tokens, 1);
    whole("workers", training.workers, 1);
    positive("utilisation", training.utilisation, 1);
    positive("network-bytes", training.network_bytes, 1e15);
    if (!(training.worker_flops >= 0 && training.worker_flops <= 1e18)) {
      throw core::InvalidOption(
          "worker-flops", fmt::format("{}", training.worker_flops), "0 to 1e18");
    }
    if (!(training.tokens >= 0 && training.tokens <= 1e18)) {
      throw core::InvalidOption("train-tokens", fmt::format("{}", training.tokens), "0 to 1e18");
    }
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("memory", self.memory, "what adze may take: 8GiB, 500MB, 2e9");
    visit("context", self.context, "tokens of each text; 0 takes the model's own context");
    visit("sequences", self.sequences, "texts at once");
    visit("train", self.train, "what training takes instead, with the flags below");
    visit("vocab-size", self.vocab_size, "of a new model of the shape below; 0: plan for --model");
    visit("", self.shape, "");
    visit("step-tokens", self.training.step_tokens, "rows of an optimiser step, of all workers");
    visit("sequence-length", self.training.sequence_length, "rows of a sequence");
    visit("micro-batch-tokens",
          self.training.micro_batch_tokens,
          "rows of a worker at once: what activations grow with");
    visit("checkpoint-activations",
          self.training.checkpoint_activations,
          "keep activations between layers alone");
    visit("workers", self.training.workers, "processes or GPUs");
    visit("worker-flops",
          self.training.worker_flops,
          "multiply-adds count two; 0: this machine's, as measured");
    visit("utilisation", self.training.utilisation, "share of them that is reached");
    visit("network-bytes", self.training.network_bytes, "a second, out of each worker");
    visit("train-tokens", self.training.tokens, "tokens of the whole run; 0: one step");
    visit("", self.common, "");
  }
};

int64_t parse_bytes(const std::string& text) {
  constexpr std::array<std::pair<std::string_view, double>, 10> kUnits = {{{"", 1},
                                                                           {"B", 1},
                                                                           {"kB", 1e3},
                                                                           {"KB", 1e3},
                                                                           {"MB", 1e6},
                                                                           {"GB", 1e9},
                                                                           {"TB", 1e12},
                                                                           {"KiB", 1024.0},
                                                                           {"MiB", 1048576.0},
                                                                           {"GiB", 1073741824.0}}};
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, number);
  std::string_view unit(stop, static_cast<size_t>(end - stop));
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  const auto found = std::find_if(
      kUnits.begin(), kUnits.end(), [&](const auto& entry) { return entry.first == unit; });
  constexpr double kMost = 1e15;
  if (code != std::errc() || found == kUnits.end() || !(number * found->second >= 1) ||
      number * found->second > kMost) {
    throw core::InvalidOption("memory", text, "bytes from 1 to 1e15, with B, MB, GB, MiB or GiB");
  }
  return static_cast<int64_t>(number * found->second);
}

nlohmann::ordered_json row_list(const infer::Plan& plan) {
  auto list = nlohmann::ordered_json::array();
  for (const infer::PlanRow& row : plan.rows) {
    list.push_back({{"store", row.store},
                    {"policy", row.policy},
                    {"bytes", row.bytes},
                    {"cached_tokens", row.cached_tokens},
                    {"fits", row.fits},
                    {"longest_context",
                     row.longest_context < 0 ? nlohmann::ordered_json()
                                             : nlohmann::ordered_json(row.longest_context)},
                    {"decode_tokens_per_second", row.decode_tokens_per_second}});
  }
  return list;
}

std::string table(const infer::Plan& plan,
                  const infer::PlanRequest& request,
                  const kernels::MachinePeaks& peaks) {
  std::string text =
      fmt::format("weights {}, program about {}, {} for caches of {} x {} tokens\n\n",
                  bytes_text(plan.weight_bytes),
                  bytes_text(plan.program_bytes),
                  bytes_text(std::max<int64_t>(
                      0, request.memory_bytes - plan.weight_bytes - plan.program_bytes)),
                  request.sequences,
                  request.context);
  text += fmt::format("{:<8} {:<26} {:>10} {:>6} {:>16} {:>18}\n",
                      "store",
                      "policy",
                      "cache",
                      "fits",
                      "longest context",
                      "decode, at most");
  for (const infer::PlanRow& row : plan.rows) {
    text += fmt::format("{:<8} {:<26} {:>10} {:>6} {:>16} {:>14.0f} t/s\n",
                        row.store,
                        row.policy,
                        bytes_text(row.bytes),
                        row.fits ? "yes" : "no",
                        row.longest_context < 0 ? "any" : std::to_string(row.longest_context),
                        row.decode_tokens_per_second);
  }
  const infer::PlanRow& advised = plan.rows[plan.advised];
  text += advised.fits ? fmt::format("\nFits: --kv-store {} --kv-policy {} --context {}\n",
                                     advised.store,
                                     advised.policy,
                                     request.context)
                       : "\nNothing fits.\n";
  text += fmt::format(
      "At most: what {:.1f} GB/s and {:.0f} GFLOP/s, measured here, allow; prefill {:.0f} t/s.\n",
      peaks.read_bytes_per_second / 1e9,
      peaks.flops_per_second / 1e9,
      plan.prefill_tokens_per_second);
  return text;
}

void plan_training(const PlanOptions& options) {
  const model::ModelSpec spec =
      options.vocab_size > 0
          ? train::new_model_spec(options.shape, options.vocab_size)
          : model::open_checkpoint(data::ModelStore().resolve(options.model.model)).spec;
  spec.validate();
  train::TrainPlanRequest request = options.training;
  if (request.worker_flops == 0) {
    request.worker_flops = known_peaks().flops_per_second;
  }
  const train::TrainPlan plan = train::plan_training(spec, request);
  if (options.common.json) {
    write_json_line({{"parameters", plan.parameters},
                     {"flops_per_token", plan.flops_per_token},
                     {"flops_per_step", plan.flops_per_step},
                     {"value_bytes", plan.value_bytes},
                     {"gradient_bytes", plan.gradient_bytes},
                     {"optimizer_bytes", plan.optimizer_bytes},
                     {"activation_bytes", plan.activation_bytes},
                     {"memory_bytes", plan.memory_bytes},
                     {"network_bytes_per_step", plan.network_bytes_per_step},
                     {"checkpoint_bytes", plan.checkpoint_bytes},
                     {"seconds_per_step", plan.seconds_per_step},
                     {"tokens_per_second", plan.tokens_per_second},
                     {"seconds", plan.seconds}});
    return;
  }
  write_output(
      fmt::format("{:.1f} M parameters, {:.3g} flops a token, {:.3g} a step of {} tokens\n"
                  "each of {} workers: values {}, gradients {}, optimiser {}, activations {}: {}\n"
                  "sent by each, a step: {}; a checkpoint: {}\n"
                  "at {:.0f} % of {:.3g} flops/s: {:.3g} s a step, {:.0f} tokens/s\n",
                  static_cast<double>(plan.parameters) / 1e6,
                  plan.flops_per_token,
                  plan.flops_per_step,
                  request.step_tokens,
                  request.workers,
                  bytes_text(plan.value_bytes),
                  bytes_text(plan.gradient_bytes),
                  bytes_text(plan.optimizer_bytes),
                  bytes_text(plan.activation_bytes),
                  bytes_text(plan.memory_bytes),
                  bytes_text(plan.network_bytes_per_step),
                  bytes_text(plan.checkpoint_bytes),
                  100 * request.utilisation,
                  request.worker_flops,
                  plan.seconds_per_step,
                  plan.tokens_per_second));
  if (request.tokens > 0) {
    write_output(fmt::format("{:.3g} tokens: {:.1f} hours\n", request.tokens, plan.seconds / 3600));
  }
}

int plan(const std::vector<std::string>& arguments) {
  PlanOptions options;
  const core::CommandLine line{
      .name = "plan",
      .summary =
          "Show which caches fit a memory beside a model and how fast they may be, or what "
          "training takes.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  if (options.train) {
    plan_training(options);
    return 0;
  }
  const model::Checkpoint checkpoint =
      model::open_checkpoint(data::ModelStore().resolve(options.model.model));
  const infer::PlanRequest request{
      .memory_bytes = parse_bytes(*options.memory),
      .context = options.context > 0 ? options.context : checkpoint.spec.context_length,
      .sequences = options.sequences};
  const kernels::MachinePeaks peaks = known_peaks();
  const infer::Plan result = infer::make_plan(checkpoint, request, peaks);
  if (!options.common.json) {
    write_output(table(result, request, peaks));
    return 0;
  }
  const infer::PlanRow& advised = result.rows[result.advised];
  write_json_line({{"fits", advised.fits},
                   {"store", advised.store},
                   {"policy", advised.policy},
                   {"weight_bytes", result.weight_bytes},
                   {"program_bytes", result.program_bytes},
                   {"cache_bytes", advised.bytes},
                   {"context", request.context},
                   {"sequences", request.sequences},
                   {"memory_bytes", request.memory_bytes},
                   {"prefill_tokens_per_second", result.prefill_tokens_per_second},
                   {"rows", row_list(result)}});
  return 0;
}

}  // namespace

core::Command plan_command() {
  return {"plan", "Show what fits a memory, before anything is loaded", plan};
}

}  // namespace adze::cli
