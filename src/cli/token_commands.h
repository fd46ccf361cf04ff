#pragma once
// Text to token ids and back: tokenize, detokenize.

#include "core/command.h"

namespace adze::cli {

core::Command tokenize_command();
core::Command detokenize_command();

core::Command template_command();  // messages -> the text that a model is shown

}  // namespace adze::cli
