#include "core/command.h"

#include <fstream>
#include <iostream>
#include <iterator>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "core/parallel.h"

namespace adze::core {
namespace {

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};

CLI::Option* add(CLI::App& app, const std::string& name, const Option& option) {
  return std::visit(
      [&](auto* member) -> CLI::Option* {
        using Member = std::remove_pointer_t<decltype(member)>;
        if constexpr (std::is_same_v<Member, bool>) {
          return app.add_flag(name + ",!--no-" + option.name, *member, option.help);
        } else {
          return app.add_option(name, *member, option.help);
        }
      },
      option.value);
}

std::string default_text(const Option& option) {
  const nlohmann::json values = options_to_json({option});
  const nlohmann::json& value = values.at(option.name);
  if (value.is_null() || value == "" || value == nlohmann::json::array() || value == false) {
    return "";
  }
  return value.is_string() ? value.get<std::string>() : value.dump();
}

nlohmann::json read_config(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    throw error("config", "cannot open {}", path);
  }
  try {
    return nlohmann::json::parse(file);
  } catch (const nlohmann::json::exception& failure) {
    throw error("config", "{} is not JSON: {}", path, failure.what());
  }
}

// CLI11 reports an unknown flag after the rest; ours names it together with the nearest known one.
[[noreturn]] void report_unknown(const CommandLine& line, const std::string& argument) {
  std::vector<std::string> names = {"help", "config", "dump-config"};
  for (const Option& option : line.options) {
    names.push_back(option.name);
  }
  if (!argument.starts_with("-")) {
    throw UsageError(fmt::format("[{}] unexpected argument {}; see adze {} --help",
                                 line.name, argument, line.name));
  }
  std::string flag = argument.substr(argument.find_first_not_of('-') == std::string::npos
                                         ? argument.size()
                                         : argument.find_first_not_of('-'));
  flag = flag.substr(0, flag.find('='));
  const std::string nearest = nearest_name(flag, names);
  throw UsageError(
      nearest.empty()
          ? fmt::format("[{}] unknown flag {}; see adze {} --help", line.name, argument, line.name)
          : fmt::format("[{}] unknown flag {}; did you mean --{}?", line.name, argument, nearest));
}

std::string value_name(const Option& option) {
  return std::visit(
      [](auto* member) -> std::string {
        using Member = std::remove_pointer_t<decltype(member)>;
        if constexpr (std::is_same_v<Member, bool>) {
          return "";
        } else if constexpr (is_vector<Member>::value) {
          return " LIST";
        } else if constexpr (std::is_same_v<Member, std::string> ||
                             std::is_same_v<Member, std::optional<std::string>>) {
          return " TEXT";
        } else {
          return " N";
        }
      },
      option.value);
}

}  // namespace

void CommonOptions::validate() const {
  if (threads < 0 || threads > 1024) {
    throw InvalidOption("threads", std::to_string(threads), "1 to 1024, or 0 for one per core");
  }
}

std::string help_text(const CommandLine& line) {
  std::string text = fmt::format("{}\n\nUsage: adze {} [flags]", line.summary, line.name);
  for (const Option& positional : line.positionals) {
    text += line.optional_positionals ? fmt::format(" [{}]", positional.name)
                                      : fmt::format(" {}", positional.name);
  }
  text += "\n\n";
  for (const Option& positional : line.positionals) {
    text += fmt::format("  {:<28} {}\n", positional.name, positional.help);
  }
  for (const Option& option : line.options) {
    const std::string value = default_text(option);
    text += fmt::format("  {:<28} {}{}\n",
                        "--" + option.name + value_name(option),
                        option.help,
                        value.empty() ? "" : fmt::format(" (default {})", value));
  }
  text += fmt::format("  {:<28} {}\n", "--config FILE", "read flags from a JSON object; flags win");
  text += fmt::format("  {:<28} {}\n", "--dump-config", "print the effective flags as JSON");
  text += fmt::format("  {:<28} {}\n", "--help", "this text");
  return text;
}

bool parse_command_line(const CommandLine& line, const std::vector<std::string>& arguments) {
  // CLI11 binds straight to the members, so the configuration file has to be applied before it runs.
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--help" || arguments[i] == "-h") {
      std::cout << help_text(line);
      return false;
    }
    if (arguments[i] == "--config" && i + 1 < arguments.size()) {
      options_from_json(line.options, read_config(arguments[i + 1]));
    } else if (arguments[i].starts_with("--config=")) {
      options_from_json(line.options, read_config(arguments[i].substr(9)));
    }
  }

  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::string config;
  bool dump_config = false;
  app.add_option("--config", config);
  app.add_flag("--dump-config", dump_config);
  for (const Option& option : line.options) {
    add(app, "--" + option.name, option);
  }
  for (const Option& positional : line.positionals) {
    CLI::Option* added = add(app, positional.name, positional);
    if (!line.optional_positionals) {
      added->required();
    }
  }
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& failure) {
    // A missing positional is often a misspelt flag; name the flag first.
    for (const std::string& extra : app.remaining()) {
      report_unknown(line, extra);
    }
    throw UsageError(fmt::format("[{}] {}", line.name, failure.what()));
  }
  for (const std::string& extra : app.remaining()) {
    report_unknown(line, extra);
  }
  if (dump_config) {
    std::cout << options_to_json(line.options).dump(2) << '\n';
    return false;
  }
  return true;
}

}  // namespace adze::core
