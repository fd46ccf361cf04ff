#include "core/json.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/error.h"

namespace adze::core {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 64;
// Bytes of the heap with glibc, blocks with their headers. One too low would let a file of
// "[[],[],..." exhaust memory.
constexpr uint64_t kSlotBytes = sizeof(Json);  // in a list, beside what the list keeps in reserve
constexpr uint64_t kListBytes = 64;
constexpr uint64_t kObjectBytes = 64;
constexpr uint64_t kMemberBytes = 112;
constexpr uint64_t kStringBytes = 48;
constexpr uint64_t kHeapTextBytes = 32;  // a text of more than 15 bytes, beside the bytes
constexpr uint64_t kBytesPerByte = 4;
constexpr uint64_t kBytesBeside = uint64_t{32} << 20;
// An error message holds three copies of a run, in which a line break may take eight bytes.
constexpr size_t kMaxRunBytes = 1 << 20;

uint64_t heap_bytes(const std::string& text) {
  return text.size() > 15 ? kHeapTextBytes + text.size() : 0;
}

// Builds the tree. NOTE: the library's own parser with a callback looks through a whole list after
// each object in it, minutes for a few megabytes.
class TreeEvents : public nlohmann::json_sax<Json> {
 public:
  TreeEvents(std::string_view text, std::string_view file)
      : file_(file), allowed_(kBytesPerByte * text.size() + kBytesBeside) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override {
    spend(kStringBytes + heap_bytes(value));
    return add(std::move(value));
  }
  bool binary(binary_t& /*value*/) override { return false; }  // not in a text
  bool start_object(size_t /*size*/) override { return open(Json::object(), kObjectBytes); }
  bool key(string_t& value) override {
    spend(kMemberBytes + heap_bytes(value));
    key_ = std::move(value);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t /*size*/) override { return open(Json::array(), kListBytes); }
  bool end_array() override { return close(); }
  bool parse_error(size_t position,
                   const std::string& token,
                   const nlohmann::json::exception& failure) override;

 private:
  void spend(uint64_t bytes, uint64_t bytes_for_a_moment = 0) {
    bytes_ += bytes;
    if (bytes_ + bytes_for_a_moment > allowed_) {
      throw error("json", "{}: expected values that fit {} bytes, got more", file_, allowed_);
    }
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  Json& place(Json value);
  bool open(Json value, uint64_t bytes);
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view file_;
  uint64_t allowed_;
  uint64_t bytes_ = 0;
  Json root_;
  std::vector<Json*> open_;  // from the root inwards; only the last one grows
  std::string key_;
};

Json& TreeEvents::place(Json value) {
  if (open_.empty()) {
    root_ = std::move(value);
    return root_;
  }
  if (open_.back()->is_object()) {
    auto& members = open_.back()->get_ref<Json::object_t&>();
    return members.insert_or_assign(std::move(key_), std::move(value)).first->second;
  }
  auto& list = open_.back()->get_ref<Json::array_t&>();
  const size_t capacity = list.capacity();
  if (list.size() == capacity) {  // it doubles, and for a moment both are there
    spend(kSlotBytes * std::max<size_t>(capacity, 1), kSlotBytes * capacity);
  }
  return list.emplace_back(std::move(value));
}

bool TreeEvents::open(Json value, uint64_t bytes) {
  if (open_.size() >= kMaxDepth) {
    throw error("json", "{}: expected at most {} levels, got more", file_, kMaxDepth);
  }
  spend(bytes);
  Json& placed = place(std::move(value));
  open_.push_back(&placed);
  return true;
}

// The library's messages contain the text: as many lines as there, and whatever a terminal obeys.
bool TreeEvents::parse_error(size_t position,
                             const std::string& /*token*/,
                             const nlohmann::json::exception& failure) {
  constexpr int kNumberOverflow = 406;
  if (failure.id == kNumberOverflow) {
    throw error("json", "{}: expected numbers that fit a double, got a larger one", file_);
  }
  throw error("json", "{}: expected JSON, got a fault at byte {}", file_, position);
}

}  // namespace

void check_json_runs(std::string_view text, std::string_view file) {
  size_t begin = 0;  // of the last scalar
  bool in_string = false;
  bool in_word = false;  // a number or a literal
  for (size_t place = 0; place < text.size(); ++place) {
    const char character = text[place];
    if (in_string) {
      place += character == '\\' ? 1 : 0;
      in_string = character != '"';
    } else if (character == '"') {
      begin = place;
      in_string = true;
      in_word = false;
    } else if (std::string_view(" \t\r\n[]{},:").find(character) != std::string_view::npos) {
      in_word = false;
    } else if (!in_word) {
      begin = place;
      in_word = true;
    }
    if (place - begin > kMaxRunBytes) {
      throw error("json",
                  "{}: expected at most {} bytes a value, got more from byte {}",
                  file,
                  kMaxRunBytes,
                  begin);
    }
  }
}

Json parse_json(std::string_view text, std::string_view file) {
  check_json_runs(text, file);
  TreeEvents events(text, file);
  Json::sax_parse(text.begin(), text.end(), &events);
  return events.take();
}

}  // namespace adze::core
