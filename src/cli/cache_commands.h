#pragma once
// Commands about the cache of keys and values.

#include "core/command.h"

namespace adze::cli {

core::Command kv_command();
core::Command cache_lab_command();
core::Command choices_command();  // which continuation a model prefers, turn by turn

}  // namespace adze::cli
