#include "train/event_file.h"

#include <array>
#include <bit>
#include <cstring>

namespace adze::train {
namespace {

constexpr std::array<uint32_t, 256> kTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0);
    }
    table[byte] = value;
  }
  return table;
}();

template <class Value>
void append_little_endian(std::string& bytes, Value value) {
  static_assert(std::endian::native == std::endian::little);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

uint32_t masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

// Protocol buffers' wire format (https://protobuf.dev/programming-guides/encoding).
enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void append_varint(std::string& bytes, uint64_t value) {
  for (; value >= 128; value >>= 7) {
    bytes.push_back(static_cast<char>(value | 128));
  }
  bytes.push_back(static_cast<char>(value));
}

void append_key(std::string& bytes, uint32_t field, Wire wire) {
  append_varint(bytes, field << 3 | static_cast<uint32_t>(wire));
}

void append_bytes(std::string& bytes, uint32_t field, std::string_view value) {
  append_key(bytes, field, Wire::kBytes);
  append_varint(bytes, value.size());
  bytes += value;
}

std::string event_at(double wall_time) {
  std::string event;
  append_key(event, 1, Wire::kFixed64);
  append_little_endian(event, wall_time);
  return event;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc = kTable[(crc ^ static_cast<uint8_t>(byte)) & 255] ^ (crc >> 8);
  }
  return ~crc;
}

std::string frame_record(std::string_view data) {
  std::string record;
  append_little_endian(record, static_cast<uint64_t>(data.size()));
  append_little_endian(record, masked(crc32c(record)));
  record += data;
  append_little_endian(record, masked(crc32c(data)));
  return record;
}

std::string version_event(double wall_time) {
  std::string event = event_at(wall_time);
  append_bytes(event, 3, "brain.Event:2");
  return event;
}

std::string scalars_event(double wall_time, int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    append_bytes(value, 1, scalar.tag);
    append_key(value, 2, Wire::kFixed32);
    append_little_endian(value, static_cast<float>(scalar.value));
    append_bytes(summary, 1, value);
  }
  std::string event = event_at(wall_time);
  append_key(event, 2, Wire::kVarint);
  append_varint(event, static_cast<uint64_t>(step));
  append_bytes(event, 5, summary);
  return event;
}

}  // namespace adze::train
