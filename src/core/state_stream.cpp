#include "core/state_stream.h"

#include "core/error.h"

namespace adze::core {

void StateWriter::text(std::string_view text) {
  value(static_cast<uint64_t>(text.size()));
  bytes(std::as_bytes(std::span(text.data(), text.size())));
}

void StateWriter::bytes(std::span<const std::byte> raw) {
  buffer_.insert(buffer_.end(), raw.begin(), raw.end());
}

void StateReader::check_room(uint64_t count, uint64_t element_bytes) const {
  if (count > data_.size() / element_bytes) {
    throw error("state",
                "{}: expected {} more bytes, got {}",
                source_,
                count * element_bytes,
                data_.size());
  }
}

std::span<const std::byte> StateReader::bytes(uint64_t count) {
  check_room(count, 1);
  const auto taken = data_.first(count);
  data_ = data_.subspan(count);
  return taken;
}

std::string StateReader::text() {
  const auto raw = bytes(value<uint64_t>());
  return {reinterpret_cast<const char*>(raw.data()), raw.size()};
}

void StateReader::expect(std::string_view field, std::string_view expected) {
  const std::string found = text();
  if (found != expected) {
    throw error(
        "state", "{}: {}: expected {}, got {}", source_, field, expected, found.substr(0, 80));
  }
}

void StateReader::expect(std::string_view field, int64_t expected) {
  const auto found = value<int64_t>();
  if (found != expected) {
    throw error("state", "{}: {}: expected {}, got {}", source_, field, expected, found);
  }
}

}  // namespace adze::core
