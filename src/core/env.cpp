#include "core/env.h"

#include <cstdlib>

#include "core/error.h"

namespace adze::core {
namespace {

std::filesystem::path base_folder(const char* variable, const char* below_home) {
  // XDG: a relative path in the variable is invalid and must be ignored.
  if (const auto value = environment(variable);
      value && std::filesystem::path(*value).is_absolute()) {
    return std::filesystem::path(*value) / "adze";
  }
  const auto home = environment("HOME");
  if (!home) {
    throw error("environment", "expected HOME or {} to name a folder, got neither", variable);
  }
  return std::filesystem::path(*home) / below_home / "adze";
}

}  // namespace

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody calls setenv
  if (value == nullptr || *value == '\0') {
    return std::nullopt;
  }
  return std::string(value);
}

std::optional<std::string> forced_isa() {
  return environment("ADZE_ISA");
}

std::filesystem::path data_folder() {
  return base_folder("XDG_DATA_HOME", ".local/share");
}
std::filesystem::path cache_folder() {
  return base_folder("XDG_CACHE_HOME", ".cache");
}

}  // namespace adze::core
