#include "model/config_fields.h"

#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"

namespace adze::model {
namespace {

constexpr size_t kShownBytes = 60;

std::string shown(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kShownBytes) {
    text.resize(kShownBytes);
    text += "...";
  }
  return text;
}

}  // namespace

nlohmann::json read_config(const std::filesystem::path& path) {
  // The largest configuration in use has a few hundred kilobytes.
  constexpr size_t kMaxConfigBytes = size_t{16} << 20;
  const core::MappedFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() > kMaxConfigBytes) {
    throw core::error("model",
                      "{}: expected up to {} bytes, got {}",
                      path.string(),
                      kMaxConfigBytes,
                      bytes.size());
  }
  return core::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                          path.string());
}

ConfigFields::ConfigFields(const nlohmann::json& object, std::string_view file, std::string within)
    : object_(&object), file_(file), within_(std::move(within)) {
  if (!object.is_object()) {
    throw core::error("model", "{}: {} expected an object, got {}", file_, within_, shown(object));
  }
}

const nlohmann::json* ConfigFields::find(const char* key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

void ConfigFields::fail(const char* key, std::string_view expected) const {
  const auto* value = find(key);
  throw core::error("model",
                    "{}: {}{}: expected {}, got {}",
                    file_,
                    within_,
                    key,
                    expected,
                    value == nullptr ? "nothing" : shown(*value));
}

std::optional<int64_t> ConfigFields::integer(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  constexpr double kLargest = 9e15;  // whole numbers of a double
  if (value->is_number_float()) {    // "131072.0" stands in some published files
    const auto real = value->get<double>();
    if (std::abs(real) <= kLargest && real == std::floor(real)) {
      return static_cast<int64_t>(real);
    }
  } else if (value->is_number_unsigned()
                 ? value->get<uint64_t>() <= static_cast<uint64_t>(kLargest)
                 : value->is_number_integer() &&
                       value->get<int64_t>() >= -static_cast<int64_t>(kLargest)) {
    return value->get<int64_t>();
  }
  fail(key, "a whole number");
}

std::optional<double> ConfigFields::number(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    fail(key, "a number");
  }
  return value->get<double>();
}

std::optional<bool> ConfigFields::boolean(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_boolean()) {
    fail(key, "true or false");
  }
  return value->get<bool>();
}

std::optional<std::string> ConfigFields::text(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    fail(key, "a string");
  }
  return value->get<std::string>();
}

std::optional<std::vector<double>> ConfigFields::numbers(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<double> result;
  if (!value->is_array()) {
    fail(key, "a list of numbers");
  }
  for (const auto& entry : *value) {
    if (!entry.is_number() || !std::isfinite(entry.get<double>())) {
      fail(key, "a list of numbers");
    }
    result.push_back(entry.get<double>());
  }
  return result;
}

std::optional<std::vector<int64_t>> ConfigFields::integers(const char* key) const {
  const auto values = numbers(key);
  if (!values) {
    return std::nullopt;
  }
  constexpr double kLargest = 9e15;  // whole numbers of a double
  std::vector<int64_t> result;
  for (const double value : *values) {
    if (value != std::floor(value) || std::abs(value) > kLargest) {
      fail(key, "a list of whole numbers");
    }
    result.push_back(static_cast<int64_t>(value));
  }
  return result;
}

bool ConfigFields::is_text(const char* key) const {
  const auto* value = find(key);
  return value != nullptr && value->is_string();
}

std::optional<std::vector<std::string>> ConfigFields::texts(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::vector<std::string> result;
  if (!value->is_array()) {
    fail(key, "a list of strings");
  }
  for (const auto& entry : *value) {
    if (!entry.is_string()) {
      fail(key, "a list of strings");
    }
    result.push_back(entry.get<std::string>());
  }
  return result;
}

std::optional<ConfigFields> ConfigFields::object(const char* key) const {
  const auto* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_object()) {
    fail(key, "an object");
  }
  return ConfigFields(*value, file_, within_ + key + ".");
}

int64_t ConfigFields::required_integer(const char* key) const {
  const auto value = integer(key);
  if (!value) {
    fail(key, "a whole number");
  }
  return *value;
}

}  // namespace adze::model
