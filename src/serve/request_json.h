#pragma once
// JSON from a stranger, within limits of depth, members and memory; time in proportion to the text.

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace adze::serve {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t depth = 128;     // lists and objects within each other
  size_t members = 4096;  // of one object: looking one up takes time in proportion to it
};

// Throws ApiError (400) that names `place`: not JSON, a member given twice, a limit, or so many
// small values that the tree would take more than 4 x text + 32 MiB.
Json parse_json(std::string_view text, const std::string& place, const JsonLimits& limits = {});

inline Json parse_body(std::string_view body) {
  return parse_json(body, "body");
}

// JSON within a text of a request or an answer, such as a call's arguments: 64 deep at most.
inline constexpr JsonLimits kInnerJson{.depth = 64};

// The value as an error message shows it: about 80 bytes of it at most; a list or an object by
// kind.
std::string shown(const Json& value);

}  // namespace adze::serve
