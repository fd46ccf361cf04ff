#include "formats/gguf.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "formats/gguf_layout.h"
#include "formats/gguf_reader.h"
#include "formats/quote_untrusted.h"

namespace adze::formats {
namespace {

// bool is no integer here: a flag that stands where a number belongs is a fault.
template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

// A list of integers is copied to 64 bits, up to 8 times its bytes in the file; 2^22 elements keep
// that within 32 MiB. Vocabularies, the longest lists in use, have below 2^19 entries.
constexpr size_t kMaxIntegers = size_t{1} << 22;

template <class T>
std::string show(const T& value) {
  if constexpr (std::is_same_v<T, GgufArray>) {
    return std::visit(
        [&](const auto& values) {
          return fmt::format("an array of {} {}s",
                             values.size(),
                             type_name(kGgufAlternatives[value.values.index()]));
        },
        value.values);
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "string " + quote_untrusted(value);
  } else {
    constexpr auto kType = kGgufAlternatives[GgufValue(T{}).index()];
    return fmt::format("{} {}", type_name(kType), value);
  }
}

bool fits_int64(const GgufValue& value) {
  const auto* wide = std::get_if<uint64_t>(&value);
  return wide == nullptr || *wide <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path)
    : path_(path), file_(std::make_shared<core::MappedFile>(path)) {
  read(file_->bytes());
}

GgufFile::GgufFile(std::span<const std::byte> bytes, const std::filesystem::path& name)
    : path_(name) {
  read(bytes);
}

void GgufFile::read(std::span<const std::byte> bytes) {
  GgufContents contents = read_gguf(bytes, path_.string());
  metadata_ = std::move(contents.metadata);
  tensors_ = std::move(contents.tensors);
  by_name_ = std::move(contents.by_name);
}

const StoredTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name, [this](uint32_t index, std::string_view wanted) {
        return tensors_[index].name < wanted;
      });
  if (found == by_name_.end() || tensors_[*found].name != name) {
    return nullptr;
  }
  return &tensors_[*found];
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata_.find(std::string(key));
  return found == metadata_.end() ? nullptr : &found->second;
}

void GgufFile::fail(std::string_view key, std::string_view expected, const GgufValue& value) const {
  throw core::error("gguf",
                    "{}: metadata {}: expected {}, got {}",
                    path_.string(),
                    quote_untrusted(key),
                    expected,
                    std::visit([](const auto& held) { return show(held); }, value));
}

std::optional<int64_t> GgufFile::find_integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  return std::visit(
      [&](const auto& held) -> int64_t {
        if constexpr (kIsInteger<std::decay_t<decltype(held)>>) {
          if (fits_int64(*value)) {
            return static_cast<int64_t>(held);
          }
        }
        fail(key, "an integer below 2^63", *value);
      },
      *value);
}

std::optional<double> GgufFile::find_number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  return std::visit(
      [&](const auto& held) -> double {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (kIsInteger<Held> || std::is_floating_point_v<Held>) {
          return static_cast<double>(held);
        } else {
          fail(key, "a number", *value);
        }
      },
      *value);
}

std::optional<bool> GgufFile::find_bool(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (const auto* held = std::get_if<bool>(value)) {
    return *held;
  }
  fail(key, "a bool", *value);
}

std::optional<std::string> GgufFile::find_string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (const auto* held = std::get_if<std::string>(value)) {
    return *held;
  }
  fail(key, "a string", *value);
}

const std::vector<std::string>* GgufFile::find_strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return nullptr;
  }
  if (const auto* held = std::get_if<GgufArray>(value)) {
    if (const auto* strings = std::get_if<std::vector<std::string>>(&held->values)) {
      return strings;
    }
  }
  fail(key, "an array of strings", *value);
}

std::optional<std::vector<int64_t>> GgufFile::find_integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  const auto* array = std::get_if<GgufArray>(value);
  if (array == nullptr) {
    fail(key, "an array of integers", *value);
  }
  return std::visit(
      [&](const auto& held) -> std::vector<int64_t> {
        if constexpr (kIsInteger<typename std::decay_t<decltype(held)>::value_type>) {
          const bool fit = held.size() <= kMaxIntegers &&
                           std::all_of(held.begin(), held.end(), [](auto element) {
                             return std::in_range<int64_t>(element);
                           });
          if (fit) {
            return {held.begin(), held.end()};
          }
        }
        fail(key, fmt::format("an array of up to {} integers below 2^63", kMaxIntegers), *value);
      },
      array->values);
}

}  // namespace adze::formats
