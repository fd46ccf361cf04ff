#include "core/json.h"

#include <cstdint>

#include "core/error.h"

namespace adze::core {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;
// Resident bytes of a value, measured with glibc: a vector's slot and its growth, a map's node, a
// string beside its characters. One too low would let a file of "[[],[],..." exhaust memory.
constexpr uint64_t kValueBytes = 32;
constexpr uint64_t kContainerBytes = 64;
constexpr uint64_t kMemberBytes = 112;
constexpr uint64_t kStringBytes = 48;
constexpr uint64_t kBytesPerByte = 4;
constexpr uint64_t kBytesBeside = uint64_t{48} << 20;

}  // namespace

Json parse_json(std::string_view text, std::string_view file) {
  const uint64_t allowed = kBytesPerByte * text.size() + kBytesBeside;
  uint64_t bytes = 0;
  const auto watch = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    if (depth > kMaxDepth) {
      throw error("json", "{}: expected at most {} levels, got more", file, kMaxDepth);
    }
    switch (event) {
      case Json::parse_event_t::key:
        bytes += kMemberBytes + parsed.get_ref<const std::string&>().size();
        break;
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        bytes += kContainerBytes;
        break;
      case Json::parse_event_t::value:
        bytes += parsed.is_string() ? kStringBytes + parsed.get_ref<const std::string&>().size()
                                    : kValueBytes;
        break;
      default:
        break;
    }
    if (bytes > allowed) {
      throw error("json", "{}: expected values that fit {} bytes, got more", file, allowed);
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& failure) {
    throw error("json", "{}: expected JSON, got an error: {}", file, failure.what());
  }
}

}  // namespace adze::core
