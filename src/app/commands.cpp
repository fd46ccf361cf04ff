#include "app/commands.h"

namespace adze::app {

const std::vector<core::Command>& commands() {
  static const std::vector<core::Command> kCommands = {};
  return kCommands;
}

}  // namespace adze::app
