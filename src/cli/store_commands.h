#pragma once
// Models by name: pull, list, remove.

#include "core/command.h"

namespace adze::cli {

core::Command pull_command();
core::Command list_command();
core::Command remove_command();

}  // namespace adze::cli
