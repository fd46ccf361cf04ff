#pragma once
// A choice by name with options of its own, as flags spell it: "window:sinks=4,window=1020". A
// table of entries says what there is; an entry has at least
//
//   std::string name;
//   nlohmann::json defaults;  // every key with its default
//
// and what makes the thing from `nlohmann::json` options.

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/options.h"

namespace adze::core {

// Of an entry whose keys are the fields of Options.
template <class Options>
std::map<std::string, std::string> option_help() {
  Options options;
  std::map<std::string, std::string> help;
  for (const Option& option : list_options(options)) {
    help[option.name] = option.help;
  }
  return help;
}
template <class Options>
nlohmann::json option_defaults() {
  Options options;
  return options_to_json(list_options(options));
}
template <class Options>
Options read_options(const nlohmann::json& values) {
  Options options;
  options_from_json(list_options(options), values);
  options.validate();
  return options;
}

// "key=value,key=value" against the defaults; values take the type of the default. Throws
// UsageError that begins with `where` and lists the keys.
nlohmann::json parse_keys(std::string_view where,
                          std::string_view text,
                          const nlohmann::json& defaults);
// The error of a name that is not among `names`.
UsageError unknown_name(std::string_view flag,
                        std::string_view name,
                        const std::vector<std::string>& names);

// Throws UsageError: an unknown name or key (with the nearest), an item that is no key=value.
template <class Entry>
std::pair<const Entry*, nlohmann::json> parse_named(std::string_view flag,
                                                    std::string_view text,
                                                    const std::vector<Entry>& entries) {
  const std::string_view name = text.substr(0, text.find(':'));
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    if (entry.name == name) {
      const std::string_view keys = name.size() < text.size() ? text.substr(name.size() + 1) : "";
      return {&entry, parse_keys(fmt::format("[{}] {}", flag, name), keys, entry.defaults)};
    }
    names.push_back(entry.name);
  }
  throw unknown_name(flag, name, names);
}

}  // namespace adze::core
