#pragma once
// How a model on a hub is named: OWNER/NAME[@REVISION][:FILE]. A hub is huggingface.co or a server
// with the same two addresses (hub.h).

#include <optional>
#include <string>
#include <string_view>

namespace adze::data {

struct HubName {
  std::string repository;         // OWNER/NAME
  std::string revision = "main";  // branch, tag or commit
  std::string file;               // path or quantisation type ("Q4_K_M"); empty: not said

  std::string model() const;  // NAME
  std::string text() const;   // OWNER/NAME, and @REVISION unless it is main
};

// nullopt: not of that form.
std::optional<HubName> parse_hub_name(std::string_view text);

// A path that stays below the folder it is appended to, on every system: relative, parts of 1 to
// 255 bytes that are not "." or "..", no backslash, no control character, 500 bytes at most.
bool is_hub_path(std::string_view path);

// Percent-encodes all but letters, digits, '-', '.', '_', '~' and the characters of `kept`
// (RFC 3986).
std::string url_escaped(std::string_view text, std::string_view kept = "");

}  // namespace adze::data
