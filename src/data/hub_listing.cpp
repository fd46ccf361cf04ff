#include "data/hub_listing.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxFileBytes = 1'000'000'000'000'000;

bool is_hexadecimal(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// Null where it is missing or of another type.
const Json& member(const Json& object, const char* name, Json::value_t type) {
  static const Json kNull;
  const auto found = object.find(name);
  return found == object.end() || found->type() != type ? kNull : *found;
}

int64_t size_of(const Json& entry, std::string_view path, std::string_view source) {
  // The parser tells numbers below zero from others by their type.
  const Json& size = member(entry, "size", Json::value_t::number_unsigned);
  if (size.is_null() || size.get<uint64_t>() > static_cast<uint64_t>(kMaxFileBytes)) {
    throw core::error("pull",
                      "{}: size of {}: expected 0 to {}, got {}",
                      source,
                      formats::quote_untrusted(path),
                      kMaxFileBytes,
                      size.is_null() ? "none" : size.dump());
  }
  return size.get<int64_t>();
}

HubFile read_entry(const Json& entry, std::string_view source) {
  const Json& path = member(entry, "path", Json::value_t::string);
  HubFile file;
  file.path = path.is_null() ? "" : path.get_ref<const std::string&>();
  if (!is_hub_path(file.path)) {
    throw core::error("pull",
                      "{}: expected file names that stay in their folder, got {}",
                      source,
                      formats::quote_untrusted(file.path));
  }
  const Json& large = member(entry, "lfs", Json::value_t::object);
  const Json& stored = large.is_null() ? entry : large;
  file.bytes = size_of(stored, file.path, source);
  const Json& oid = member(stored, "oid", Json::value_t::string);
  if (!oid.is_null()) {
    const auto& digits = oid.get_ref<const std::string&>();
    if (!is_hexadecimal(digits, large.is_null() ? 40 : 64)) {
      throw core::error("pull",
                        "{}: checksum of {}: expected {} hexadecimal digits, got {}",
                        source,
                        formats::quote_untrusted(file.path),
                        large.is_null() ? 40 : 64,
                        formats::quote_untrusted(digits));
    }
    (large.is_null() ? file.git_blob : file.sha256) = digits;
  }
  return file;
}

}  // namespace

void append_listing(std::string_view json, std::string_view source, std::vector<HubFile>& files) {
  Json list;
  try {
    list = core::parse_json(json, source);
  } catch (const core::Error& failure) {
    throw core::error("pull",
                      "{}: expected a list in JSON, got {}",
                      source,
                      formats::quote_untrusted(failure.what()));
  }
  if (!list.is_array()) {
    throw core::error("pull", "{}: expected a list of files, got {}", source, list.type_name());
  }
  for (const Json& entry : list) {
    if (!entry.is_object()) {
      throw core::error(
          "pull", "{}: expected objects in the list, got {}", source, entry.type_name());
    }
    if (member(entry, "type", Json::value_t::string) != "file") {
      continue;
    }
    if (files.size() == kMaxListedFiles) {
      throw core::error("pull", "{}: expected at most {} files, got more", source, kMaxListedFiles);
    }
    files.push_back(read_entry(entry, source));
  }
}

}  // namespace adze::data
