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
  infer::SpeedOptions speed;
  infer::CacheOptions cache;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("peaks", self.peaks, "measure the machine itself: read bandwidth and multiply-adds");
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

std::string row_text(std::string_view test, const std::vector<double>& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{:<24} {:>9.1f} tokens/s   ({:.1f} to {:.1f}, {} runs)\n",
                     test,
                     median(values),
                     *least,
                     *most,
                     values.size());
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
  if (options.common.json) {
    write_json_line({{"prefill_tokens_per_second", median(result.prefill)},
                     {"decode_tokens_per_second", median(result.decode)},
                     {"prefill_runs", result.prefill},
                     {"decode_runs", result.decode},
                     {"depth_tokens_per_second", result.depth},
                     {"depth", options.speed.depth},
                     {"cache_bytes", result.cache_bytes},
                     {"isa", kernels::active_isa()},
                     {"threads", core::num_threads()}});
    return 0;
  }
  if (!result.prefill.empty()) {
    write_output(
        row_text(fmt::format("prefill {} at {}", options.speed.prompt_tokens, options.speed.depth),
                 result.prefill));
  }
  if (!result.decode.empty()) {
    write_output(
        row_text(fmt::format("decode {} at {}", options.speed.decode_tokens, options.speed.depth),
                 result.decode));
  }
  return 0;
}

}  // namespace

core::Command bench_command() {
  return {.name = "bench", .summary = "Measure prefill and decode speed", .run = bench};
}

}  // namespace adze::cli
