#pragma once
// A place in an untrusted GGUF file. Nothing is taken that is not there; every failure is one line
// that names the file, what was being read, the place, the legal values and the value found.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"

namespace adze::formats {

static_assert(std::endian::native == std::endian::little,
              "values are read as they lie in the file");

class GgufCursor {
 public:
  // What is being read, for messages. Cheap to set; turned into text only by a failure.
  struct Context {
    std::string_view kind;  // "header", "metadata", "tensor"
    uint64_t index = 0;
    std::string_view name = {};  // empty until it has been read

    std::string text() const;
  };

  // `file`, kept by the caller, is what errors call the file.
  GgufCursor(std::span<const std::byte> bytes, const std::string& file)
      : bytes_(bytes), file_(file) {}

  void set_context(const Context& context) { context_ = context; }
  std::span<const std::byte> bytes() const { return bytes_; }
  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  std::span<const std::byte> take(uint64_t count, std::string_view field) {
    if (count > remaining()) {
      fail_end(field, count);
    }
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  T number(std::string_view field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
    return value;
  }

  // A length within [low, high], then as many bytes.
  std::string_view text(std::string_view field, uint64_t low, uint64_t high);

  template <class Value>
  [[noreturn]] void fail(std::string_view field,
                         std::string_view expected,
                         const Value& value) const {
    throw core::error("gguf",
                      "{}: {}, {} near byte {}: expected {}, got {}",
                      file_,
                      context_.text(),
                      field,
                      position_,
                      expected,
                      value);
  }
  [[noreturn]] void fail_range(std::string_view field,
                               uint64_t low,
                               uint64_t high,
                               uint64_t value) const;
  // A fault that legal values do not describe.
  [[noreturn]] void fail_plainly(std::string_view message) const;

 private:
  [[noreturn]] void fail_end(std::string_view field, uint64_t count) const;

  std::span<const std::byte> bytes_;
  const std::string& file_;
  uint64_t position_ = 0;
  Context context_ = {"header"};
};

}  // namespace adze::formats
