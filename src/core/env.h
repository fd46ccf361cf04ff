#pragma once
// The only place that reads environment variables.

#include <filesystem>
#include <optional>
#include <string>

namespace adze::core {

std::optional<std::string> environment(const char* name);  // unset or empty: nullopt

std::optional<std::string> forced_isa();  // ADZE_ISA: kernels use this instruction set at most

// XDG base directories (freedesktop.org), each with "adze" appended; not created.
std::filesystem::path data_folder();   // $XDG_DATA_HOME or ~/.local/share
std::filesystem::path cache_folder();  // $XDG_CACHE_HOME or ~/.cache

}  // namespace adze::core
