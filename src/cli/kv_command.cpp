// adze kv: the stores and policies of the cache, with their keys.

#include <algorithm>

#include "cli/cache_commands.h"
#include "cli/terminal.h"
#include "kv/cache_registry.h"

namespace adze::cli {
namespace {

struct KvOptions {
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.common, "");
  }
};

template <class Entry>
std::string entries_text(const char* flag, const std::vector<Entry>& entries) {
  std::string text = fmt::format("--{} NAME[:key=value,...]\n", flag);
  for (const Entry& entry : entries) {
    text += fmt::format("  {:<10} {}\n", entry.name, entry.summary);
    for (const auto& [key, value] : entry.defaults.items()) {
      text += fmt::format("  {:<10}   {}={}   {}\n", "", key, value.dump(), entry.help.at(key));
    }
  }
  return text;
}

int kv(const std::vector<std::string>& arguments) {
  KvOptions options;
  const core::CommandLine line{.name = "kv",
                               .summary = "List the cache's stores and policies.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  if (options.common.json) {
    write_json_line(kv::choices_json());
  } else {
    write_output(entries_text("kv-store", kv::store_entries()) + "\n" +
                 entries_text("kv-policy", kv::policy_entries()));
  }
  return 0;
}

}  // namespace

core::Command kv_command() {
  return {.name = "kv", .summary = "List the cache's stores and policies", .run = kv};
}

}  // namespace adze::cli
