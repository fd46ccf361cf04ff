// Parses the subcommand, maps failures to exit codes: 0 ok, 1 failed, 2 usage.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/version.h"
#include "core/error.h"
#include "methods/register_methods.h"

namespace {

using adze::core::Command;

void print_overview() {
  std::cout << "adze shapes language models to fit.\n\nUsage: adze COMMAND [flags]\n\n";
  for (const Command& command : adze::app::commands()) {
    std::cout << fmt::format("  {:<12} {}\n", command.name, command.summary);
  }
  std::cout << "\n  adze COMMAND --help shows a command's flags, adze help --all shows all.\n";
}

int help(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && arguments[0] == "--all") {
    for (const Command& command : adze::app::commands()) {
      command.run({"--help"});
      std::cout << '\n';
    }
  } else {
    print_overview();
  }
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    print_overview();
    return 2;
  }
  const std::string& name = arguments[0];
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (name == "help" || name == "--help" || name == "-h") {
    return help(rest);
  }
  if (name == "--version" || name == "version") {
    std::cout << adze::app::version_text() << '\n';
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : adze::app::commands()) {
    if (command.name == name) {
      return command.run(rest);
    }
    names.push_back(command.name);
  }
  const std::string nearest = adze::core::nearest_name(name, names);
  throw adze::core::UsageError(
      nearest.empty() ? fmt::format("[adze] unknown command {}; see adze help", name)
                      : fmt::format("[adze] unknown command {}; did you mean {}?", name, nearest));
}

// Exit code of the command; what it throws is told in a line.
int guarded_run(const std::vector<std::string>& arguments) {
  try {
    adze::methods::register_methods();
    return run(arguments);
  } catch (const adze::core::UsageError& failure) {
    std::cerr << "adze: " << failure.what() << '\n';
    return 2;
  } catch (const std::exception& failure) {
    std::cerr << "adze: " << failure.what() << '\n';
    return 1;
  }
}

}  // namespace

int main(int count, char** values) {
  // A reader that closes the pipe (adze ... | head) ends the write with an error, not the process.
  std::signal(SIGPIPE, SIG_IGN);
  const int code = guarded_run({values + 1, values + count});
  std::cout.flush();
  std::fflush(nullptr);
  // All that a command made is gone by now. At exit libtorch would take its thousands of operators
  // apart one by one, a quarter of the time of a short command.
  std::_Exit(code);
}
