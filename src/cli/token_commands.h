#pragma once
// Text to token ids and back: tokenize, detokenize.

#include "core/command.h"

namespace adze::cli {

core::Command tokenize_command();
core::Command detokenize_command();

}  // namespace adze::cli
