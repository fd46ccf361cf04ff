#define HWY_WANT_AVX3_DL  // all that any kernel has
#include "kernels/simd.h"

#include <algorithm>

#include <hwy/highway.h>
#include <hwy/targets.h>

#include "core/error.h"

namespace adze::kernels {
namespace {

// Bits of Highway targets grow from the best to the baseline.
std::vector<uint32_t> available_targets() {
  const auto both = static_cast<uint32_t>(hwy::SupportedTargets() & HWY_TARGETS);
  std::vector<uint32_t> targets;
  for (uint32_t bit = 1; bit != 0; bit <<= 1) {
    if ((both & bit) != 0) {
      targets.push_back(bit);
    }
  }
  return targets;
}

}  // namespace

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const uint32_t target : available_targets()) {
    names.emplace_back(hwy::TargetName(target));
  }
  return names;
}

std::string active_isa() {
  const std::vector<std::string> names = supported_isas();
  if (names.empty()) {
    throw core::error("cpu", "expected a CPU with AVX2 and FMA, got one without");
  }
  return names.front();
}

void force_isa(std::string_view name) {
  hwy::SetSupportedTargetsForTest(0);  // back to what the CPU has
  const std::vector<std::string> names = supported_isas();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw core::InvalidOption("isa", name, fmt::format("one of {}", fmt::join(names, ", ")));
  }
  const auto targets = available_targets();
  uint32_t allowed = 0;
  for (size_t i = static_cast<size_t>(found - names.begin()); i < targets.size(); ++i) {
    allowed |= targets[i];
  }
  hwy::SetSupportedTargetsForTest(allowed);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace adze::kernels
