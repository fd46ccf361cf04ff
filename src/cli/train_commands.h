#pragma once

#include "core/command.h"

namespace adze::cli {

core::Command data_command();  // tokenize, merge, train-tokenizer, inspect
core::Command train_command();

}  // namespace adze::cli
