#pragma once
// Failures caused by the caller or by data: one line that names field, value and legal range.
// Mapped once to an exit code (cli) or an HTTP status (serve). Our own bugs go to check.h instead.

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace adze::core {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A command line or request that cannot be understood: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// A value outside its legal range.
class InvalidOption : public UsageError {
 public:
  InvalidOption(std::string_view field, std::string_view value, std::string_view legal)
      : UsageError(fmt::format("[{}] expected {}, got {}", field, legal, value)) {}
};

// throw error("gguf", "tensor {} ends at byte {}", name, end)  ->  "[gguf] tensor ..."
template <class... Arguments>
[[nodiscard]] Error error(std::string_view where,
                          fmt::format_string<Arguments...> format,
                          Arguments&&... arguments) {
  return Error(
      fmt::format("[{}] {}", where, fmt::format(format, std::forward<Arguments>(arguments)...)));
}

}  // namespace adze::core
