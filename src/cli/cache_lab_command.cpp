// adze cache-lab: which cache setting, from evidence.

#include <optional>

#include "cli/cache_commands.h"
#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/model_store.h"
#include "eval/cache_lab.h"
#include "eval/cache_lab_page.h"
#include "infer/loaded_model.h"

namespace adze::cli {
namespace {

struct CacheLabCommandOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  std::optional<std::string> file;
  std::optional<std::string> out;
  eval::CacheLabOptions lab;
  core::CommonOptions common;

  void validate() const {
    if (!file) {
      throw core::UsageError("[cache-lab] expected --file, got none");
    }
    lab.validate();
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("file", self.file, "text to read, - for stdin");
    visit("out", self.out, "also draw the result, to this HTML file");
    visit("", self.lab, "");
    visit("", self.common, "");
  }
};

std::string table(const std::vector<eval::CacheLabRow>& rows) {
  std::string text =
      fmt::format("  {:<24} {:<14} {:>6} {:>10} {:>6} {:>7} {:>6} {:>8} {:>8} {:>7}\n",
                  "policy",
                  "store",
                  "budget",
                  "perplexity",
                  "top-1",
                  "KL",
                  "needle",
                  "bytes/t",
                  "prefill",
                  "decode");
  const auto number = [](const std::optional<double>& value, int digits) {
    return value ? fmt::format("{:.{}f}", *value, digits) : std::string("-");
  };
  for (const eval::CacheLabRow& row : rows) {
    text += fmt::format("{} {:<24} {:<14} {:>6} ",
                        row.pareto ? "*" : " ",
                        row.policy + (row.reapplied ? " (reapplied)" : ""),
                        row.store,
                        row.budget);
    text += !row.skipped.empty() ? fmt::format("skipped: {}\n", row.skipped)
                                 : fmt::format("{:>10} {:>6} {:>7} {:>6} {:>8} {:>8} {:>7}\n",
                                               number(row.perplexity, 3),
                                               number(row.top1_agreement, 3),
                                               number(row.kl, 4),
                                               number(row.needle_recall, 2),
                                               number(row.cache_bytes_per_token, 0),
                                               number(row.prefill_tokens_per_second, 0),
                                               number(row.decode_tokens_per_second, 1));
  }
  return text + "* no other setting has both fewer bytes and a lower perplexity\n";
}

int cache_lab(const std::vector<std::string>& arguments) {
  CacheLabCommandOptions options;
  const core::CommandLine line{
      .name = "cache-lab",
      .summary =
          "Measure what cache settings cost and save: a text under policies x stores x budgets.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  const auto tokens =
      loaded.tokenizer.encode(read_input(*options.file), text::SpecialTokens::kPlain);
  std::optional<core::Progress> progress;
  eval::CacheLabResult result{.model = options.model.model,
                              .context = options.lab.context,
                              .chunks = options.lab.chunks,
                              .rows = {}};
  result.rows = eval::cache_lab(
      loaded, tokens, options.lab, [&](int64_t done, int64_t all, const std::string& what) {
        if (!progress) {
          progress.emplace("cache-lab", all, "readings");
        }
        progress->update(done, what);
      });
  progress.reset();
  if (options.out) {
    const std::string page = eval::cache_lab_page(result);
    core::AtomicFile file(*options.out);
    file.write(std::as_bytes(std::span(page)));
    file.commit();
  }
  if (options.common.json) {
    write_json_line(eval::cache_lab_json(result));
  } else {
    write_output(table(result.rows));
  }
  return 0;
}

}  // namespace

core::Command cache_lab_command() {
  return {.name = "cache-lab",
          .summary = "Compare cache settings on a text: quality, bytes, speed",
          .run = cache_lab};
}

}  // namespace adze::cli
