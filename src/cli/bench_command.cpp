// adze bench: how fast this machine runs a model, and what the machine could do at most.

#include <algorithm>

#include "cli/machine_record.h"
#include "cli/model_argument.h"
#include "cli/model_commands.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/progress.h"
#include "data/model_store.h"
#include "infer/loaded_model.h"
#include "infer/speed.h"
#include "kernels/machine_peaks/machine_peaks.h"
#include "kernels/simd.h"

namespace adze::cli {
namespace {

struct BenchOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  bool peaks = false;
  bool markdown = false;
  infer::SpeedOptions speed;
  infer::CacheOptions cache;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("peaks", self.peaks, "measure the machine itself: read bandwidth and multiply-adds");
    visit("markdown", self.markdown, "the result as a table");
    visit("", self.speed, "");
    visit("", self.cache, "");
    visit("", self.common, "");
  }
};

double median(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

struct Test {
  std::string name;
  const std::vector<double>& runs;  // tokens/s
  double share;                     // of what the machine's peaks allow
  const char* limit;
};

std::vector<Test> tests_of(const infer::SpeedOptions& options,
                           const infer::SpeedResult& result,
                           const kernels::MachinePeaks& peaks) {
  std::vector<Test> tests;
  if (!result.prefill.empty()) {
    tests.push_back(
        {.name = fmt::format("prefill {} at {}", options.prompt_tokens, options.depth),
         .runs = result.prefill,
         .share = median(result.prefill) * result.prefill_flops / peaks.flops_per_second,
         .limit = "of the f32 multiply-adds"});
  }
  if (!result.decode.empty()) {
    tests.push_back(
        {.name = fmt::format("decode {} at {}", options.decode_tokens, options.depth),
         .runs = result.decode,
         .share = median(result.decode) * result.decode_bytes / peaks.read_bytes_per_second,
         .limit = "of the read bandwidth"});
  }
  return tests;
}

std::string table(const BenchOptions& options, const std::vector<Test>& tests) {
  std::string text = fmt::format(
      "| {}, {}, {} threads, {}, {} | tokens/s | least to most | share of the peak |\n"
      "|---|---|---|---|\n",
      options.model.model,
      kernels::active_isa(),
      core::num_threads(),
      options.cache.kv_store,
      options.cache.kv_policy);
  for (const Test& test : tests) {
    const auto [least, most] = std::minmax_element(test.runs.begin(), test.runs.end());
    text += fmt::format("| {} | {:.1f} | {:.1f} to {:.1f} | {:.0f} % {} |\n",
                        test.name,
                        median(test.runs),
                        *least,
                        *most,
                        100 * test.share,
                        test.limit);
  }
  return text;
}

std::string lines(const std::vector<Test>& tests) {
  std::string text;
  for (const Test& test : tests) {
    const auto [least, most] = std::minmax_element(test.runs.begin(), test.runs.end());
    text += fmt::format("{:<24} {:>9.1f} tokens/s   ({:.1f} to {:.1f}, {} runs)   {:.0f} % {}\n",
                        test.name,
                        median(test.runs),
                        *least,
                        *most,
                        test.runs.size(),
                        100 * test.share,
                        test.limit);
  }
  return text;
}

void report_peaks(bool json) {
  const kernels::MachinePeaks peaks = measure_and_keep_peaks();
  if (json) {
    write_json_line({{"read_bytes_per_second", peaks.read_bytes_per_second},
                     {"flops_per_second", peaks.flops_per_second},
                     {"isa", kernels::active_isa()},
                     {"threads", core::num_threads()}});
    return;
  }
  write_output(fmt::format("{}, {} threads: reads {:.1f} GB/s, {:.1f} GFLOP/s in f32\n",
                           kernels::active_isa(),
                           core::num_threads(),
                           peaks.read_bytes_per_second / 1e9,
                           peaks.flops_per_second / 1e9));
}

int bench(const std::vector<std::string>& arguments) {
  BenchOptions options;
  const core::CommandLine line{.name = "bench",
                               .summary = "Measure prefill and decode speed.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  if (options.peaks) {
    report_peaks(options.common.json);
    return 0;
  }
  options.speed.validate();
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  infer::Generator generator(loaded.model, options.cache);
  core::Progress progress("bench", options.speed.repetitions, "runs");
  const infer::SpeedResult result = infer::measure_speed(
      generator, options.speed, [&](int64_t done, int64_t) { progress.update(done); });
  progress.finish();
  const std::vector<Test> tests = tests_of(options.speed, result, known_peaks());
  if (!options.common.json) {
    write_output(options.markdown ? table(options, tests) : lines(tests));
    return 0;
  }
  nlohmann::ordered_json object = {{"prefill_tokens_per_second", median(result.prefill)},
                                   {"decode_tokens_per_second", median(result.decode)},
                                   {"prefill_runs", result.prefill},
                                   {"decode_runs", result.decode},
                                   {"depth_tokens_per_second", result.depth},
                                   {"depth", options.speed.depth},
                                   {"cache_bytes", result.cache_bytes},
                                   {"isa", kernels::active_isa()},
                                   {"threads", core::num_threads()}};
  for (const Test& test : tests) {
    object[&test.runs == &result.prefill ? "prefill_share" : "decode_share"] = test.share;
  }
  write_json_line(object);
  return 0;
}

}  // namespace

core::Command bench_command() {
  return {.name = "bench", .summary = "Measure prefill and decode speed", .run = bench};
}

}  // namespace adze::cli
