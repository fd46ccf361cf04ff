#pragma once
// A subcommand is one value; the table in app/ lists them all, explicitly.

#include <functional>
#include <string>
#include <vector>

#include "core/options.h"

namespace adze::core {

struct Command {
  std::string name;
  std::string summary;                                                // one line for `adze help`
  std::function<int(const std::vector<std::string>& arguments)> run;  // returns the exit code
};

// What every command understands beside its own options.
struct CommonOptions {
  bool json = false;
  int64_t threads = 0;  // 0: one per core

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("json", self.json, "last line of stdout is one JSON object");
    visit("threads", self.threads, "CPU threads, 1 to 1024; 0 takes one per core");
  }
};

struct CommandLine {
  std::string name;  // "generate"
  std::string summary;
  std::vector<Option> options;
  // Positional arguments in order; a vector takes the rest. Required unless `optional_positionals`.
  std::vector<Option> positionals;
  bool optional_positionals = false;
};

// Parses flags (--name VALUE, --name=VALUE, --switch, --no-switch, --list VALUE VALUE) into the
// options. Also understands --help, --config FILE.json (flags win over it) and --dump-config.
// A list ends at the next word that begins with "--"; after a word "--" all are positional.
// Returns false when --help or --dump-config has been printed and the command has nothing left to
// do. Throws UsageError: unknown flag (with the nearest name), missing value, wrong type.
bool parse_command_line(const CommandLine& line, const std::vector<std::string>& arguments);

// The text of --help: flags with defaults.
std::string help_text(const CommandLine& line);

}  // namespace adze::core
