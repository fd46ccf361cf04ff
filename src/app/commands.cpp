#include "app/commands.h"

#include "app/serve_command.h"
#include "cli/cache_commands.h"
#include "cli/convert_command.h"
#include "cli/inspect_command.h"
#include "cli/model_commands.h"
#include "cli/store_commands.h"
#include "cli/token_commands.h"
#include "cli/train_commands.h"

namespace adze::app {

const std::vector<core::Command>& commands() {
  static const std::vector<core::Command> kCommands = {
      cli::pull_command(),      cli::list_command(),       cli::remove_command(),
      cli::inspect_command(),   cli::plan_command(),       cli::convert_command(),
      cli::generate_command(),  cli::chat_command(),       cli::perplexity_command(),
      cli::embed_command(),     cli::bench_command(),      cli::kv_command(),
      cli::cache_lab_command(), cli::choices_command(),    cli::data_command(),
      cli::train_command(),     cli::runs_command(),       serve_command(),
      cli::tokenize_command(),  cli::detokenize_command(), cli::template_command()};
  return kCommands;
}

}  // namespace adze::app
