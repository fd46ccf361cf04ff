#include "serve/request_json.h"

#include <algorithm>
#include <cstdint>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "serve/api_error.h"
#include "text/utf8.h"

namespace adze::serve {
namespace {

constexpr size_t kShownBytes = 80;
// Bytes of the heap with glibc, about; what core::parse_json counts.
constexpr uint64_t kValueBytes = 2 * sizeof(Json);  // and what a list keeps in reserve
constexpr uint64_t kContainerBytes = 64;
constexpr uint64_t kMemberBytes = 112;
constexpr uint64_t kTextBytes = 48;
constexpr uint64_t kBytesPerByte = 4;
constexpr uint64_t kBytesBeside = uint64_t{32} << 20;

// Builds the tree. NOTE: the library's own parser with a callback looks through a whole list after
// each object in it, minutes for a few megabytes; its ordered object looks through all members for
// each new one.
class TreeEvents : public nlohmann::json_sax<Json> {
 public:
  TreeEvents(std::string_view text, const std::string& place, const JsonLimits& limits)
      : place_(place), limits_(limits), allowed_(kBytesPerByte * text.size() + kBytesBeside) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override {
    spend(kTextBytes + value.size());
    return add(std::move(value));
  }
  bool binary(binary_t& /*value*/) override { return false; }  // not in a text
  bool start_object(size_t /*size*/) override { return open(Json::object()); }
  bool key(string_t& value) override {
    spend(kMemberBytes + value.size());
    auto& names = open_.back().names;
    if (!names.insert(value).second) {
      fail(fmt::format("each field once, got {} twice", shown(Json(value))));
    }
    if (names.size() > limits_.members) {
      fail(fmt::format("at most {} fields an object, got more", limits_.members));
    }
    key_ = std::move(value);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t /*size*/) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  // The library's message quotes the text, which may be long.
  bool parse_error(size_t position,
                   const std::string& /*token*/,
                   const nlohmann::json::exception& failure) override {
    constexpr int kNumberOverflow = 406;
    fail(failure.id == kNumberOverflow ? "numbers that fit a double, got a larger one"
                                       : fmt::format("JSON, got a fault at byte {}", position));
  }

 private:
  struct Open {
    Json* value;  // only the innermost one grows, so that these stay where they are
    std::unordered_set<std::string> names;
  };

  [[noreturn]] void fail(const std::string& expected) const {
    throw bad_request(place_ == "body" ? "" : place_,
                      fmt::format("[{}] expected {}", place_, expected));
  }
  void spend(uint64_t bytes) {
    bytes_ += bytes;
    if (bytes_ > allowed_) {
      fail(fmt::format("values that fit {} bytes, got more", allowed_));
    }
  }
  Json& place(Json value) {
    spend(kValueBytes);
    if (open_.empty()) {
      root_ = std::move(value);
      return root_;
    }
    Json& parent = *open_.back().value;
    if (parent.is_array()) {
      return parent.get_ref<Json::array_t&>().emplace_back(std::move(value));
    }
    // The members' vector itself: the object would search for the name, which is known to be new.
    auto& members = parent.get_ref<Json::object_t&>();
    return members.emplace_back(std::move(key_), std::move(value)).second;
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (open_.size() >= limits_.depth) {
      fail(fmt::format("JSON nested at most {} deep", limits_.depth));
    }
    spend(kContainerBytes);
    open_.push_back({&place(std::move(value)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& place_;
  JsonLimits limits_;
  uint64_t allowed_;
  uint64_t bytes_ = 0;
  Json root_;
  std::vector<Open> open_;  // from the root inwards
  std::string key_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& place, const JsonLimits& limits) {
  TreeEvents events(text, place, limits);
  Json::sax_parse(text.begin(), text.end(), &events);
  return events.take();
}

std::string shown(const Json& value) {
  if (value.is_structured()) {
    return value.is_array() ? "a list" : "an object";
  }
  std::string text;
  if (value.is_string()) {  // the front alone: the whole may be megabytes
    text = Json(value.get_ref<const std::string&>().substr(0, kShownBytes))
               .dump(-1, ' ', false, Json::error_handler_t::replace);
  } else {
    text = value.dump();
  }
  if (text.size() > kShownBytes) {
    text.resize(kShownBytes);
    text.resize(text::valid_prefix(text));
    text += "...";
  }
  return text;
}

}  // namespace adze::serve
