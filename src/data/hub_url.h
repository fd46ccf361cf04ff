#pragma once
// Addresses and header values of strangers (RFC 3986, 8288, 9110).

#include <cstdint>
#include <string>
#include <string_view>

namespace adze::data {

// Lower case; empty: not an absolute address.
std::string url_scheme(std::string_view url);
std::string url_host(std::string_view url);

// http or https, a host, perhaps port and path; no user, password, query or fragment.
bool is_endpoint(std::string_view url);
// 127.0.0.0/8, [::1] or localhost: what is sent there does not leave this machine.
bool is_loopback_url(std::string_view url);
// Scheme, host and port are equal, the scheme's own port included.
bool same_origin(std::string_view url, std::string_view other);
// The endpoint's origin, and https or this machine.
bool may_receive_token(std::string_view endpoint, std::string_view url);

// The rel="next" target of a Link header, absolute where `url` is the page's; empty: none.
std::string next_page_url(std::string_view link, std::string_view url);

struct ContentRange {
  int64_t start = -1;  // -1: not a range of bytes
  int64_t total = -1;  // -1: not known
};
ContentRange parse_content_range(std::string_view value);  // "bytes 100-199/200"

// "..." in quotes, printable, 200 bytes at most: one that tells contents apart byte for byte.
bool is_strong_entity_tag(std::string_view tag);

}  // namespace adze::data
