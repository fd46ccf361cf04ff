#include "app/version.h"

#include <fmt/format.h>

#include "core/parallel.h"

namespace adze::app {

std::string version_text() {
  return fmt::format("adze {} ({} threads)", ADZE_VERSION, core::num_threads());
}

}  // namespace adze::app
