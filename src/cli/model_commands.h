#pragma once
#include "core/command.h"

namespace adze::cli {

core::Command generate_command();    // one prompt, one answer
core::Command chat_command();        // a conversation on the terminal
core::Command bench_command();       // speed of a model and of the machine
core::Command perplexity_command();  // how well a model predicts a text
core::Command embed_command();       // texts to vectors
core::Command plan_command();        // what fits, before anything is loaded

}  // namespace adze::cli
