#pragma once
#include "core/command.h"

namespace adze::cli {

core::Command convert_command();

}  // namespace adze::cli
