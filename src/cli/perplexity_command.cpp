// adze perplexity: how well a model predicts a text.

#include <chrono>

#include "cli/model_argument.h"
#include "cli/model_commands.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/model_store.h"
#include "eval/perplexity.h"
#include "infer/loaded_model.h"

namespace adze::cli {
namespace {

struct PerplexityCommandOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  std::optional<std::string> file;
  int64_t bytes = 0;
  infer::CacheOptions cache;
  eval::PerplexityOptions perplexity;
  core::CommonOptions common;

  void validate() const {
    if (!file) {
      throw core::UsageError("[perplexity] expected --file, got none");
    }
    if (bytes < 0) {
      throw core::InvalidOption(
          "bytes", std::to_string(bytes), "1 or more, or 0 for the whole file");
    }
    cache.validate();
    perplexity.validate();
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("file", self.file, "text to score, - for stdin");
    visit("bytes", self.bytes, "take only the first bytes of the file; 0 takes all");
    visit("", self.cache, "");
    visit("", self.perplexity, "");
    visit("", self.common, "");
  }
};

int perplexity(const std::vector<std::string>& arguments) {
  PerplexityCommandOptions options;
  const core::CommandLine line{
      .name = "perplexity",
      .summary = "Measure how well a model predicts a text; --context is the window (default 512).",
      .options = core::list_options(options),
      .positionals = {}};
  options.cache.context = 512;
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  infer::Generator generator(loaded.model, options.cache);
  const kv::Sequence sequence = generator.new_sequence();
  const kv::KvPolicy& policy = sequence.policy();
  if (policy.evicts() && (policy.prompt_only() || policy.needs().whole_prompt)) {
    write_notice(fmt::format(
        "{} cuts prompts, and there is none here: this is the figure of the full cache; "
        "adze cache-lab measures what the policy costs",
        policy.name()));
  }
  std::string text = read_input(*options.file);
  if (options.bytes > 0 && options.bytes < static_cast<int64_t>(text.size())) {
    text.resize(static_cast<size_t>(options.bytes));
  }
  const auto tokens = loaded.tokenizer.encode(text, text::SpecialTokens::kPlain);

  const auto start = std::chrono::steady_clock::now();
  std::optional<core::Progress> progress;
  const eval::PerplexityResult result =
      eval::perplexity(generator,
                       tokens,
                       infer::begin_of_text(loaded.tokenizer),
                       generator.context(),
                       options.perplexity,
                       [&](int64_t done, int64_t all, double so_far) {
                         if (!progress) {
                           progress.emplace("perplexity", all, "windows");
                         }
                         progress->update(done, fmt::format("perplexity {:.2f} so far", so_far));
                       });
  progress.reset();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (options.common.json) {
    write_json_line({{"perplexity", result.perplexity},
                     {"standard_error", result.standard_error},
                     {"tokens", result.tokens},
                     {"windows", result.windows},
                     {"seconds", seconds}});
  } else {
    write_output(fmt::format("perplexity {:.4f} ± {:.4f} over {} tokens in {} windows\n",
                             result.perplexity,
                             result.standard_error,
                             result.tokens,
                             result.windows));
  }
  return 0;
}

}  // namespace

core::Command perplexity_command() {
  return {.name = "perplexity",
          .summary = "Measure how well a model predicts a text",
          .run = perplexity};
}

}  // namespace adze::cli
