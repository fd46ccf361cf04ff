#pragma once
// What is in a model file: adze inspect.

#include "core/command.h"

namespace adze::cli {

core::Command inspect_command();

}  // namespace adze::cli
