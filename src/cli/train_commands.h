#pragma once

#include "core/command.h"

namespace adze::cli {

core::Command data_command();  // tokenize, merge, train-tokenizer, inspect
core::Command train_command();
core::Command runs_command();  // list, show, plot

}  // namespace adze::cli
