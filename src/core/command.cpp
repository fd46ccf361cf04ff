#include "core/command.h"

#include <algorithm>
#include <fstream>
#include <iostream>

#include "core/error.h"
#include "core/parallel.h"

namespace adze::core {
namespace {

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};

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

bool is_switch(const Option& option) {
  return std::holds_alternative<bool*>(option.value);
}

bool is_list(const Option& option) {
  return std::visit(
      [](auto* member) { return is_vector<std::remove_pointer_t<decltype(member)>>::value; },
      option.value);
}

[[noreturn]] void report_unknown_flag(const CommandLine& line, std::string_view flag) {
  std::vector<std::string> names = {"help", "config", "dump-config"};
  for (const Option& option : line.options) {
    names.push_back(option.name);
  }
  const size_t begin = std::min(flag.find_first_not_of('-'), flag.size());
  const std::string nearest = nearest_name(flag.substr(begin), names);
  throw UsageError(
      nearest.empty()
          ? fmt::format("[{}] unknown flag {}; see adze {} --help", line.name, flag, line.name)
          : fmt::format("[{}] unknown flag {}; did you mean --{}?", line.name, flag, nearest));
}

// The arguments cut into flags and positionals; nothing is converted or assigned yet, because the
// configuration file comes before the flags.
struct Arguments {
  struct Flag {
    const Option* option;
    std::vector<std::string> values;
  };
  std::vector<Flag> flags;
  std::vector<std::string> positionals;
  std::optional<std::string> config;
  bool help = false;
  bool dump_config = false;
};

class ArgumentReader {
 public:
  ArgumentReader(const CommandLine& line, const std::vector<std::string>& arguments)
      : line_(line), next_(arguments.begin()), end_(arguments.end()) {}

  Arguments read() {
    while (next_ != end_ && !result_.help) {
      const std::string argument = *next_++;
      if (argument == "--") {
        result_.positionals.insert(result_.positionals.end(), next_, end_);
        next_ = end_;
      } else if (argument.size() > 1 && argument[0] == '-') {
        read_flag(argument);
      } else {
        result_.positionals.push_back(argument);  // "-" alone means stdin
      }
    }
    return std::move(result_);
  }

 private:
  void read_flag(const std::string& argument) {
    const size_t equals = std::min(argument.find('='), argument.size());
    const std::string flag = argument.substr(0, equals);
    std::optional<std::string> value;
    if (equals < argument.size()) {
      value = argument.substr(equals + 1);
    }
    if (flag == "--help" || flag == "-h") {
      result_.help = true;
    } else if (flag == "--dump-config") {
      result_.dump_config = true;
    } else if (flag == "--config") {
      result_.config = take_value(flag, value);
    } else {
      read_option(flag, value);
    }
  }

  void read_option(const std::string& flag, const std::optional<std::string>& value) {
    const std::string name = flag.starts_with("--") ? flag.substr(2) : "";
    for (const Option& option : line_.options) {
      if (is_switch(option) && (name == option.name || name == "no-" + option.name)) {
        add(option, {name == option.name ? value.value_or("true") : "false"});
        return;
      }
      if (name == option.name) {
        add(option, {take_value(flag, value)});
        while (is_list(option) && !value && next_ != end_ && !next_->starts_with("--")) {
          result_.flags.back().values.push_back(*next_++);
        }
        return;
      }
    }
    report_unknown_flag(line_, flag);
  }

  // A list may be given in several parts; anything else given twice is a mistake.
  void add(const Option& option, std::vector<std::string> values) {
    for (Arguments::Flag& given : result_.flags) {
      if (given.option == &option && is_list(option)) {
        Arguments::Flag joined{&option, std::move(given.values)};
        joined.values.insert(joined.values.end(), values.begin(), values.end());
        std::erase_if(result_.flags, [&](const auto& flag) { return flag.option == &option; });
        result_.flags.push_back(std::move(joined));
        return;
      }
      if (given.option == &option) {
        throw UsageError(fmt::format("[{}] --{} is given twice", line_.name, option.name));
      }
    }
    result_.flags.push_back({&option, std::move(values)});
  }

  // What follows a flag is its value even if it looks like a flag: prompts may begin with dashes.
  std::string take_value(const std::string& flag, const std::optional<std::string>& value) {
    if (value) {
      return *value;
    }
    if (next_ == end_) {
      throw UsageError(fmt::format("[{}] {} needs a value", line_.name, flag));
    }
    return *next_++;
  }

  const CommandLine& line_;
  std::vector<std::string>::const_iterator next_;
  std::vector<std::string>::const_iterator end_;
  Arguments result_;
};

void assign_positionals(const CommandLine& line, const std::vector<std::string>& given) {
  auto next = given.begin();
  for (const Option& positional : line.positionals) {
    if (next == given.end()) {
      if (!line.optional_positionals) {
        throw UsageError(fmt::format(
            "[{}] {} is missing; see adze {} --help", line.name, positional.name, line.name));
      }
      return;
    }
    const auto last = is_list(positional) ? given.end() : next + 1;
    assign_text(positional, {next, last});
    next = last;
  }
  if (next != given.end()) {
    throw UsageError(fmt::format(
        "[{}] unexpected argument {}; see adze {} --help", line.name, *next, line.name));
  }
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
  const Arguments given = ArgumentReader(line, arguments).read();
  if (given.help) {
    std::cout << help_text(line);
    return false;
  }
  if (given.config) {
    options_from_json(line.options, read_config(*given.config));
  }
  for (const Arguments::Flag& flag : given.flags) {
    assign_text(*flag.option, flag.values);
  }
  if (given.dump_config) {
    std::cout << options_to_json(line.options).dump(2) << '\n';
    return false;
  }
  assign_positionals(line, given.positionals);
  return true;
}

}  // namespace adze::core
