#pragma once
// Our own bugs. Never reachable by user input; never compiled out.

#include <source_location>
#include <sstream>
#include <stdexcept>

namespace adze::core {

class CheckFailure : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace internal {
[[noreturn]] void fail_check(const std::string& message, const std::source_location& where);
}

// Carries the call site beside the first message part, so that `check` can be variadic.
struct CheckedCondition {
  bool holds;
  std::source_location where;
  // NOLINTNEXTLINE(google-explicit-constructor): the conversion is what captures the call site
  CheckedCondition(bool condition, std::source_location location = std::source_location::current())
      : holds(condition), where(location) {}
};

// check(heads % kv_heads == 0, "heads % kv_heads, got ", heads, " and ", kv_heads);
template <class... Parts>
void check(CheckedCondition condition, const Parts&... parts) {
  if (condition.holds) [[likely]] {
    return;
  }
  std::ostringstream message;
  (message << ... << parts);
  internal::fail_check(message.str(), condition.where);
}

}  // namespace adze::core
