#pragma once
// Commands about the cache of keys and values.

#include "core/command.h"

namespace adze::cli {

core::Command kv_command();
core::Command cache_lab_command();

}  // namespace adze::cli
