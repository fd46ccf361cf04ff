#include "cli/machine_record.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "cli/terminal.h"
#include "core/atomic_file.h"
#include "core/env.h"
#include "core/error.h"
#include "core/json.h"
#include "core/parallel.h"
#include "kernels/simd.h"

namespace adze::cli {
namespace {

constexpr double kSecondsEach = 1.5;

std::filesystem::path record_path() {
  return core::cache_folder() / "machine_peaks.json";
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 1);
    }
  }
  return "unknown";
}

// Peaks measured elsewhere (a shared home folder, another machine's copy) must not count.
nlohmann::json key() {
  return {{"cpu", cpu_name()}, {"isa", kernels::active_isa()}, {"threads", core::num_threads()}};
}

std::optional<kernels::MachinePeaks> kept_peaks() {
  try {
    const auto path = record_path();
    if (!std::filesystem::exists(path)) {
      return std::nullopt;
    }
    const auto record = core::parse_json(read_input(path.string()), path.string());
    if (record.at("machine") != key()) {
      return std::nullopt;
    }
    const kernels::MachinePeaks peaks{record.at("read_bytes_per_second").get<double>(),
                                      record.at("flops_per_second").get<double>()};
    if (!(peaks.read_bytes_per_second > 0 && peaks.flops_per_second > 0)) {
      return std::nullopt;
    }
    return peaks;
  } catch (const std::exception&) {
    return std::nullopt;  // damaged: measured again and replaced
  }
}

}  // namespace

kernels::MachinePeaks measure_and_keep_peaks() {
  const kernels::MachinePeaks peaks = kernels::measure_machine_peaks(kSecondsEach);
  try {
    const auto path = record_path();
    std::filesystem::create_directories(path.parent_path());
    core::AtomicFile file(path);
    const nlohmann::json record{{"machine", key()},
                                {"read_bytes_per_second", peaks.read_bytes_per_second},
                                {"flops_per_second", peaks.flops_per_second}};
    file.write(record.dump() + "\n");
    file.commit();
  } catch (const std::exception& failure) {
    write_notice(fmt::format("note: the machine's peaks were not kept: {}", failure.what()));
  }
  return peaks;
}

kernels::MachinePeaks known_peaks() {
  const auto kept = kept_peaks();
  return kept ? *kept : measure_and_keep_peaks();
}

}  // namespace adze::cli
