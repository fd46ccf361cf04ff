#pragma once
// Saved states (conversations, checkpoints): little-endian values, length-prefixed, read back with
// every length checked against the bytes that are there.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace adze::core {

class StateWriter {
 public:
  template <class T>
  requires std::is_arithmetic_v<T>
  void value(T number) { bytes(std::as_bytes(std::span(&number, 1))); }
  void text(std::string_view text);            // length, then bytes
  void bytes(std::span<const std::byte> raw);  // bytes alone
  template <class T>
  requires std::is_arithmetic_v<T>
  void list(std::span<const T> numbers) {  // count, then values
    value(static_cast<uint64_t>(numbers.size()));
    bytes(std::as_bytes(numbers));
  }
  const std::vector<std::byte>& buffer() const { return buffer_; }

 private:
  std::vector<std::byte> buffer_;
};

// Throws Error naming `source` when the bytes run out or a length cannot be.
class StateReader {
 public:
  StateReader(std::string source, std::span<const std::byte> data)
      : source_(std::move(source)), data_(data) {}

  template <class T>
  requires std::is_arithmetic_v<T> T value() {
    T number;
    std::memcpy(&number, bytes(sizeof(T)).data(), sizeof(T));
    return number;
  }
  std::string text();
  std::span<const std::byte> bytes(uint64_t count);
  template <class T>
  requires std::is_arithmetic_v<T> std::vector<T> list() {
    const auto count = value<uint64_t>();
    check_room(count, sizeof(T));
    std::vector<T> numbers(count);
    if (count > 0) {
      std::memcpy(numbers.data(), bytes(count * sizeof(T)).data(), count * sizeof(T));
    }
    return numbers;
  }
  // A value that must equal what the reader expects: format tags, model shapes.
  void expect(std::string_view field, std::string_view expected);
  void expect(std::string_view field, int64_t expected);
  bool at_end() const { return data_.empty(); }
  const std::string& source() const { return source_; }

 private:
  void check_room(uint64_t count, uint64_t element_bytes) const;

  std::string source_;
  std::span<const std::byte> data_;
};

}  // namespace adze::core
