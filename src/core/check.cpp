#include "core/check.h"

namespace adze::core::internal {

void fail_check(const std::string& message, const std::source_location& where) {
  std::ostringstream text;
  text << where.file_name() << ':' << where.line() << ": internal check failed: " << message;
  throw CheckFailure(text.str());
}

}  // namespace adze::core::internal
