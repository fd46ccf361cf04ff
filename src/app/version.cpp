#include "app/version.h"

#include <fmt/format.h>

#include "core/parallel.h"
#include "kernels/simd.h"

namespace adze::app {

std::string version_text() {
  return fmt::format(
      "adze {} ({}, {} threads)", ADZE_VERSION, kernels::active_isa(), core::num_threads());
}

}  // namespace adze::app
