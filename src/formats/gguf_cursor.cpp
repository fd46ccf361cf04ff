#include "formats/gguf_cursor.h"

#include "formats/quote_untrusted.h"

namespace adze::formats {

std::string GgufCursor::Context::text() const {
  if (kind == "header") {
    return "header";
  }
  return name.empty() ? fmt::format("{} {}", kind, index)
                      : fmt::format("{} {}", kind, quote_untrusted(name));
}

std::string_view GgufCursor::text(std::string_view field, uint64_t low, uint64_t high) {
  const auto length = number<uint64_t>(field);
  if (length < low || length > high) {
    fail_range(field, low, high, length);
  }
  const auto bytes = take(length, field);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void GgufCursor::fail_range(std::string_view field,
                            uint64_t low,
                            uint64_t high,
                            uint64_t value) const {
  fail(field, fmt::format("{} to {}", low, high), value);
}

void GgufCursor::fail_plainly(std::string_view message) const {
  throw core::error("gguf", "{}: {}: {}", file_, context_.text(), message);
}

void GgufCursor::fail_end(std::string_view field, uint64_t count) const {
  fail(field,
       fmt::format("{} more bytes", count),
       fmt::format("{} until the end of the file", remaining()));
}

}  // namespace adze::formats
