#pragma once
// The explicit table of subcommands: greppable, and immune to linkers that drop statics.

#include <vector>

#include "core/command.h"

namespace adze::app {

const std::vector<core::Command>& commands();

}  // namespace adze::app
