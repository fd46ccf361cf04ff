#include "core/named_options.h"

namespace adze::core {

nlohmann::json parse_keys(std::string_view where,
                          std::string_view text,
                          const nlohmann::json& defaults) {
  auto values = nlohmann::json::object();
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text = item.size() < text.size() ? text.substr(item.size() + 1) : "";
    const size_t equals = item.find('=');
    const std::string key(item.substr(0, equals));
    if (equals == std::string_view::npos || !defaults.contains(key)) {
      std::vector<std::string> keys;
      for (const auto& [known, value] : defaults.items()) {
        keys.push_back(known + "=" + value.dump());
      }
      throw UsageError(
          fmt::format("{}: expected key=value with {}, got {}",
                      where,
                      keys.empty() ? "no keys" : fmt::format("{}", fmt::join(keys, " or ")),
                      item));
    }
    const std::string value(item.substr(equals + 1));
    const nlohmann::json parsed = nlohmann::json::parse(value, nullptr, false);
    values[key] =
        parsed.is_discarded() || defaults[key].is_string() ? nlohmann::json(value) : parsed;
  }
  return values;
}

UsageError unknown_name(std::string_view flag,
                        std::string_view name,
                        const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(name, names);
  return UsageError(fmt::format("[{}] expected one of {}, got {}{}",
                                flag,
                                fmt::join(names, ", "),
                                name,
                                nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

}  // namespace adze::core
