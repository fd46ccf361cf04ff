#pragma once
// For tests: GGUF files assembled field by field, so that each can be wrong on its own.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace adze::formats {

class GgufBytes {
 public:
  template <class T>
  GgufBytes& number(std::type_identity_t<T> value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    bytes_.append(bytes, sizeof(T));
    return *this;
  }
  GgufBytes& raw(std::string_view bytes) {
    bytes_.append(bytes);
    return *this;
  }
  GgufBytes& text(std::string_view text) { return number<uint64_t>(text.size()).raw(text); }

  GgufBytes& header(uint64_t tensors, uint64_t metadata, uint32_t version = 3) {
    return raw("GGUF").number<uint32_t>(version).number<uint64_t>(tensors).number<uint64_t>(
        metadata);
  }
  // A key and the number of its value's type; the value follows.
  GgufBytes& key(std::string_view name, uint32_t type) { return text(name).number<uint32_t>(type); }

  // dimensions: innermost first, as the file has them.
  GgufBytes& tensor(std::string_view name,
                    std::initializer_list<int64_t> dimensions,
                    uint32_t type,
                    uint64_t offset) {
    text(name).number<uint32_t>(static_cast<uint32_t>(dimensions.size()));
    for (const int64_t dimension : dimensions) {
      number<int64_t>(dimension);
    }
    return number<uint32_t>(type).number<uint64_t>(offset);
  }
  GgufBytes& pad(size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
  GgufBytes& zeros(size_t count) {
    bytes_.resize(bytes_.size() + count, '\0');
    return *this;
  }

  std::string& string() { return bytes_; }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

}  // namespace adze::formats
