#include "formats/safetensors_index.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "formats/json_events.h"
#include "formats/quote_untrusted.h"
#include "formats/safetensors_layout.h"

namespace adze::formats {
namespace {

core::Error fault_in(const std::string& file,
                     std::string_view field,
                     std::string_view expected,
                     std::string_view got) {
  return core::error("safetensors", "{}: {}: expected {}, got {}", file, field, expected, got);
}

// Names come from strangers: one that names another folder would read what is not the model's.
bool is_plain_shard_name(std::string_view name) {
  constexpr std::string_view kEnding = ".safetensors";
  constexpr size_t kMaxFileNameBytes = 255;
  return name.size() > kEnding.size() && name.size() <= kMaxFileNameBytes &&
         name.ends_with(kEnding) && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// {"metadata": ANYTHING, "weight_map": {"tensor": "shard", ...}}
class IndexEvents : public JsonEvents {
 public:
  explicit IndexEvents(const std::string& file) : file_(file) {}

  SafetensorsIndex shards;
  bool has_map = false;

  bool null() override { return ignore("null"); }
  bool boolean(bool value) override { return ignore(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return ignore(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return ignore(std::to_string(value)); }
  bool number_float(number_float_t value, const string_t& /*text*/) override {
    return ignore(std::to_string(value));
  }
  bool string(string_t& value) override;
  bool start_object(size_t /*size*/) override { return open("an object"); }
  bool end_object() override { return close(); }
  bool start_array(size_t /*size*/) override { return open("a list"); }
  bool end_array() override { return close(); }
  bool key(string_t& value) override;

 protected:
  core::Error fault(std::string_view got) const override;

 private:
  // A value that is of no interest, as long as it does not stand in the map.
  bool ignore(std::string_view value);
  bool open(std::string_view value);
  bool close();

  const std::string& file_;
  int64_t depth_ = 0;    // of open objects and lists
  bool in_map_ = false;  // in weight_map or right in front of it
  std::string key_;
  uint64_t num_tensors_ = 0;
};

core::Error IndexEvents::fault(std::string_view got) const {
  if (in_map_) {
    return fault_in(file_,
                    "weight_map, " + quote_untrusted(key_),
                    "a file name NAME.safetensors without folders",
                    got);
  }
  return fault_in(file_, "index", "a JSON object with one weight_map", got);
}

bool IndexEvents::ignore(std::string_view value) {
  if (depth_ == 0 || in_map_) {
    refuse(value);
  }
  return true;
}

bool IndexEvents::open(std::string_view value) {
  constexpr int64_t kMaxDepth = 64;
  const bool is_start = depth_ == 0 && value == "an object";
  const bool is_map = depth_ == 1 && in_map_ && value == "an object";
  if (!is_start && !is_map && (depth_ == 0 || in_map_)) {
    refuse(value);
  }
  if (++depth_ > kMaxDepth) {
    refuse("more than 64 levels");
  }
  return true;
}

bool IndexEvents::close() {
  --depth_;
  if (depth_ == 1) {
    in_map_ = false;
  }
  return true;
}

bool IndexEvents::key(string_t& value) {
  key_ = value;
  if (depth_ == 1 && value == "weight_map") {
    if (std::exchange(has_map, true)) {
      refuse("a second weight_map");
    }
    in_map_ = true;
  }
  return true;
}

bool IndexEvents::string(string_t& value) {
  if (depth_ != 2 || !in_map_) {
    return ignore("string " + quote_untrusted(value));
  }
  if (!is_plain_shard_name(value)) {
    refuse(quote_untrusted(value));
  }
  if (key_.empty() || key_.size() > kSafetensorsMaxNameBytes) {
    throw fault_in(file_,
                   "weight_map, " + quote_untrusted(key_),
                   fmt::format("a name of 1 to {} bytes", kSafetensorsMaxNameBytes),
                   fmt::format("{}", key_.size()));
  }
  if (++num_tensors_ > kSafetensorsMaxIndexed) {
    throw fault_in(
        file_, "weight_map", fmt::format("up to {} tensors", kSafetensorsMaxIndexed), "more");
  }
  shards[value].push_back(key_);
  if (shards.size() > kSafetensorsMaxShards) {
    throw fault_in(
        file_, "weight_map", fmt::format("up to {} files", kSafetensorsMaxShards), "more");
  }
  return true;
}

}  // namespace

SafetensorsIndex read_safetensors_index(std::string_view text, const std::string& file) {
  IndexEvents events(file);
  events.read(text, file);
  if (!events.has_map) {
    throw fault_in(file, "index", "a weight_map", "none");
  }
  for (auto& [shard, names] : events.shards) {
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) {
      throw fault_in(
          file, "weight_map, " + quote_untrusted(*twice), "each name once", "a second entry");
    }
  }
  return std::move(events.shards);
}

}  // namespace adze::formats
