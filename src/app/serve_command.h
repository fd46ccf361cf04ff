#pragma once

#include "core/command.h"

namespace adze::app {

core::Command serve_command();

}  // namespace adze::app
