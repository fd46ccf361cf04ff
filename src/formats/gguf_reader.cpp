#include "formats/gguf_reader.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "formats/gguf_cursor.h"
#include "formats/gguf_layout.h"
#include "formats/gguf_tensors.h"
#include "formats/quote_untrusted.h"

namespace adze::formats {
namespace {

// Smallest encodings: they bound every count by the bytes that are left.
constexpr uint64_t kMinStringBytes = 8;                // its length
constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;  // key, type, a uint8

// Calls visit(std::type_identity<T>) for the C++ type of a scalar or string.
template <class Visit>
auto with_type(GgufType type, Visit&& visit) {
  switch (type) {
    case GgufType::kUint8:
      return visit(std::type_identity<uint8_t>());
    case GgufType::kInt8:
      return visit(std::type_identity<int8_t>());
    case GgufType::kUint16:
      return visit(std::type_identity<uint16_t>());
    case GgufType::kInt16:
      return visit(std::type_identity<int16_t>());
    case GgufType::kUint32:
      return visit(std::type_identity<uint32_t>());
    case GgufType::kInt32:
      return visit(std::type_identity<int32_t>());
    case GgufType::kFloat32:
      return visit(std::type_identity<float>());
    case GgufType::kBool:
      return visit(std::type_identity<bool>());
    case GgufType::kUint64:
      return visit(std::type_identity<uint64_t>());
    case GgufType::kInt64:
      return visit(std::type_identity<int64_t>());
    case GgufType::kFloat64:
      return visit(std::type_identity<double>());
    default:  // kString; the caller has dealt with kArray
      return visit(std::type_identity<std::string>());
  }
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& file) : cursor_(bytes, file) {}

  GgufContents read();

 private:
  void read_header();
  GgufType value_type(std::string_view field);
  GgufValue value(GgufType type);
  GgufArray array();
  template <class T>
  std::vector<T> array_of(uint64_t count);
  template <class T>
  T scalar();
  void read_metadata(GgufContents& contents);
  uint64_t alignment(const GgufContents& contents);

  GgufCursor cursor_;
  uint64_t num_tensors_ = 0;
  uint64_t num_metadata_ = 0;
};

void Reader::read_header() {
  const auto magic = cursor_.take(kGgufMagic.size(), "magic");
  const std::string_view found(reinterpret_cast<const char*>(magic.data()), magic.size());
  if (found != kGgufMagic) {
    cursor_.fail("magic", quote_untrusted(kGgufMagic), quote_untrusted(found));
  }
  const auto version = cursor_.number<uint32_t>("version");
  constexpr uint32_t kLastVersionKnown = 3;
  const uint32_t reversed = __builtin_bswap32(version);
  if (reversed >= 1 && reversed <= kLastVersionKnown) {
    cursor_.fail("version", "2 or 3, little endian", "a big-endian file, which is not supported");
  }
  if (version != 2 && version != kGgufVersion) {
    cursor_.fail("version", "2 or 3", version);
  }
  num_tensors_ = cursor_.number<uint64_t>("tensor count");
  num_metadata_ = cursor_.number<uint64_t>("metadata count");
  const uint64_t max_tensors = std::min(kGgufMaxTensors, cursor_.remaining() / kGgufMinTensorBytes);
  if (num_tensors_ > max_tensors) {
    cursor_.fail_range("tensor count", 0, max_tensors, num_tensors_);
  }
  const uint64_t max_metadata = std::min(kGgufMaxMetadata, cursor_.remaining() / kMinMetadataBytes);
  if (num_metadata_ > max_metadata) {
    cursor_.fail_range("metadata count", 0, max_metadata, num_metadata_);
  }
}

template <class T>
T Reader::scalar() {
  if constexpr (std::is_same_v<T, bool>) {
    const auto value = cursor_.number<uint8_t>("bool");
    if (value > 1) {
      cursor_.fail("bool", "0 or 1", value);
    }
    return value == 1;
  } else if constexpr (std::is_same_v<T, std::string>) {
    return std::string(cursor_.text("string length", 0, kGgufMaxStringBytes));
  } else {
    return cursor_.number<T>("value");
  }
}

GgufType Reader::value_type(std::string_view field) {
  const auto type = cursor_.number<uint32_t>(field);
  if (type >= kGgufTypeNames.size()) {
    cursor_.fail_range(field, 0, kGgufTypeNames.size() - 1, type);
  }
  return static_cast<GgufType>(type);
}

template <class T>
std::vector<T> Reader::array_of(uint64_t count) {
  constexpr uint64_t kElementBytes = std::is_same_v<T, std::string> ? kMinStringBytes : sizeof(T);
  if (count > cursor_.remaining() / kElementBytes) {
    cursor_.fail_range("array length", 0, cursor_.remaining() / kElementBytes, count);
  }
  // A std::string takes 32 bytes where the file spends 8 at least, hence the factor 4 in what a
  // reader may allocate. Nothing else here takes more than twice its bytes in the file.
  std::vector<T> values;
  if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    values.reserve(count);
    for (uint64_t index = 0; index < count; ++index) {
      values.push_back(scalar<T>());
    }
  } else {
    values.resize(count);
    const auto bytes = cursor_.take(count * sizeof(T), "array");
    if (count > 0) {
      std::memcpy(values.data(), bytes.data(), bytes.size());
    }
  }
  return values;
}

GgufArray Reader::array() {
  const GgufType type = value_type("array element type");
  if (type == GgufType::kArray) {
    cursor_.fail("array element type", "a scalar or string", "an array of arrays");
  }
  const auto count = cursor_.number<uint64_t>("array length");
  return with_type(type, [&](auto identity) {
    return GgufArray{array_of<typename decltype(identity)::type>(count)};
  });
}

GgufValue Reader::value(GgufType type) {
  if (type == GgufType::kArray) {
    return array();
  }
  return with_type(
      type, [&](auto identity) { return GgufValue(scalar<typename decltype(identity)::type>()); });
}

void Reader::read_metadata(GgufContents& contents) {
  for (uint64_t index = 0; index < num_metadata_; ++index) {
    cursor_.set_context({"metadata", index});
    const std::string_view key = cursor_.text("key length", 1, kGgufMaxKeyBytes);
    cursor_.set_context({"metadata", index, key});
    const GgufType type = value_type("value type");
    const auto [entry, inserted] = contents.metadata.try_emplace(std::string(key));
    if (!inserted) {
      cursor_.fail("key", "each key once", "a second entry");
    }
    entry->second = value(type);
  }
}

uint64_t Reader::alignment(const GgufContents& contents) {
  const auto entry = contents.metadata.find(std::string(kGgufAlignmentKey));
  if (entry == contents.metadata.end()) {
    return kGgufDefaultAlignment;
  }
  cursor_.set_context({"metadata", 0, kGgufAlignmentKey});
  const auto* value = std::get_if<uint32_t>(&entry->second);
  if (value == nullptr) {
    cursor_.fail("value type", "uint32", type_name(kGgufAlternatives[entry->second.index()]));
  }
  if (!is_legal_alignment(*value)) {
    cursor_.fail("value",
                 fmt::format("a power of two, {} to {}", kGgufMinAlignment, kGgufMaxAlignment),
                 *value);
  }
  return *value;
}

GgufContents Reader::read() {
  GgufContents contents;
  read_header();
  read_metadata(contents);
  const uint64_t unit = alignment(contents);
  read_gguf_tensors(cursor_, num_tensors_, unit, contents);
  return contents;
}

}  // namespace

GgufContents read_gguf(std::span<const std::byte> bytes, const std::string& file) {
  return Reader(bytes, file).read();
}

}  // namespace adze::formats
