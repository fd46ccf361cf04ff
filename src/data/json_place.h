#pragma once
// A value in an untrusted JSON file together with where it stands, for messages such as
// "tokenizer.json: model.vocab: expected an object, got null".

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/quote_untrusted.h"

namespace adze::data {

class JsonPlace {
 public:
  JsonPlace(const nlohmann::json& json, std::string file, std::string path = {})
      : json_(&json), file_(std::move(file)), path_(std::move(path)) {}

  const nlohmann::json& json() const { return *json_; }
  const std::string& path() const { return path_; }
  bool is_null() const { return json_->is_null(); }

  [[noreturn]] void fail(std::string_view expected) const {
    throw core::error("tokenizer",
                      "{}: {}: expected {}, got {}",
                      file_,
                      path_.empty() ? "the file" : path_,
                      expected,
                      shown());
  }
  [[noreturn]] void not_supported() const {
    throw core::error("tokenizer", "{}: {}: {} is not supported", file_, path_, shown());
  }

  // A member; a missing one is null.
  JsonPlace at(const char* key) const {
    static const nlohmann::json null;
    if (!json_->is_object()) {
      fail("an object");
    }
    const auto found = json_->find(key);
    return {found == json_->end() ? null : *found,
            file_,
            path_.empty() ? one_line(key) : path_ + "." + one_line(key)};
  }
  std::vector<JsonPlace> elements() const {
    if (!json_->is_array()) {
      fail("an array");
    }
    std::vector<JsonPlace> places;
    for (size_t index = 0; index < json_->size(); ++index) {
      places.emplace_back((*json_)[index], file_, fmt::format("{}[{}]", path_, index));
    }
    return places;
  }

  const std::string& text() const {
    if (!json_->is_string()) {
      fail("a string");
    }
    return json_->get_ref<const std::string&>();
  }
  std::string text_or(std::string_view fallback) const {
    return is_null() ? std::string(fallback) : text();
  }
  bool flag_or(bool fallback) const {
    if (!is_null() && !json_->is_boolean()) {
      fail("true or false");
    }
    return is_null() ? fallback : json_->get<bool>();
  }
  int64_t integer(int64_t low, int64_t high) const {
    const bool fits =
        json_->is_number_integer() &&
        !(json_->is_number_unsigned() && json_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
    if (!fits || json_->get<int64_t>() < low || json_->get<int64_t>() > high) {
      fail(fmt::format("{} to {}", low, high));
    }
    return json_->get<int64_t>();
  }
  int64_t integer_or(int64_t fallback, int64_t low, int64_t high) const {
    return is_null() ? fallback : integer(low, high);
  }

 private:
  // Keys may come from the file.
  static std::string one_line(std::string key) {
    for (char& character : key) {
      character = character < ' ' || character == '\x7f' ? '?' : character;
    }
    return key;
  }
  std::string shown() const {
    if (json_->is_string()) {
      return formats::quote_untrusted(json_->get_ref<const std::string&>());
    }
    return json_->is_structured()
               ? std::string("an ") + json_->type_name()
               : json_->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  }

  const nlohmann::json* json_;
  std::string file_;
  std::string path_;
};

}  // namespace adze::data
