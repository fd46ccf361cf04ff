#include "data/hub_url.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <new>

#include <curl/curl.h>

namespace adze::data {
namespace {

using Address = std::unique_ptr<CURLU, void (*)(CURLU*)>;

// Null: not an absolute address.
Address parse(std::string_view url) {
  Address address(curl_url(), curl_url_cleanup);
  if (address == nullptr) {
    throw std::bad_alloc();
  }
  if (curl_url_set(
          address.get(), CURLUPART_URL, std::string(url).c_str(), CURLU_NON_SUPPORT_SCHEME) !=
      CURLUE_OK) {
    address.reset();
  }
  return address;
}

std::string part_of(const Address& address, CURLUPart part, unsigned flags = 0) {
  char* value = nullptr;
  if (address == nullptr || curl_url_get(address.get(), part, &value, flags) != CURLUE_OK) {
    return "";
  }
  const std::unique_ptr<char, void (*)(void*)> owner(value, curl_free);
  std::string text(value);
  if (part == CURLUPART_HOST || part == CURLUPART_SCHEME) {
    std::transform(text.begin(), text.end(), text.begin(), [](char character) {
      return character >= 'A' && character <= 'Z' ? static_cast<char>(character - 'A' + 'a')
                                                  : character;
    });
  }
  return text;
}

std::string part_of(std::string_view url, CURLUPart part, unsigned flags = 0) {
  return part_of(parse(url), part, flags);
}

bool is_http(std::string_view scheme) {
  return scheme == "http" || scheme == "https";
}

// Takes a number and what must follow it off the front.
bool take_number(std::string_view& text, int64_t& number, std::string_view ending) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || number < 0) {
    return false;
  }
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (!text.starts_with(ending)) {
    return false;
  }
  text.remove_prefix(ending.size());
  return true;
}

}  // namespace

std::string url_scheme(std::string_view url) {
  return part_of(url, CURLUPART_SCHEME);
}

std::string url_host(std::string_view url) {
  return part_of(url, CURLUPART_HOST);
}

bool is_endpoint(std::string_view url) {
  const Address address = parse(url);
  return is_http(part_of(address, CURLUPART_SCHEME)) && !part_of(address, CURLUPART_HOST).empty() &&
         part_of(address, CURLUPART_USER).empty() && part_of(address, CURLUPART_PASSWORD).empty() &&
         url.find_first_of("?#@") == std::string_view::npos;
}

bool is_loopback_url(std::string_view url) {
  const std::string host = url_host(url);
  if (host == "localhost" || host == "[::1]") {
    return true;
  }
  // Four numbers, not a name such as 127.example.org.
  return host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string::npos;
}

bool same_origin(std::string_view url, std::string_view other) {
  const Address first = parse(url);
  const Address second = parse(other);
  const auto equal = [&](CURLUPart part, unsigned flags) {
    const std::string value = part_of(first, part, flags);
    return !value.empty() && value == part_of(second, part, flags);
  };
  return equal(CURLUPART_SCHEME, 0) && equal(CURLUPART_HOST, 0) &&
         equal(CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

bool may_receive_token(std::string_view endpoint, std::string_view url) {
  return same_origin(endpoint, url) && (url_scheme(url) == "https" || is_loopback_url(url));
}

std::string next_page_url(std::string_view link, std::string_view url) {
  // <target>; parameter="value"; ..., <target>; ...
  while (true) {
    const size_t begin = link.find('<');
    const size_t end = link.find('>', begin);
    if (begin == std::string_view::npos || end == std::string_view::npos) {
      return "";
    }
    const std::string target(link.substr(begin + 1, end - begin - 1));
    link.remove_prefix(end + 1);
    const std::string_view parameters = link.substr(0, link.find('<'));
    if (parameters.find("rel=\"next\"") == std::string_view::npos &&
        parameters.find("rel=next") == std::string_view::npos) {
      continue;
    }
    const Address address = parse(url);
    if (address == nullptr ||
        curl_url_set(address.get(), CURLUPART_URL, target.c_str(), CURLU_NON_SUPPORT_SCHEME) !=
            CURLUE_OK) {
      return "";
    }
    return part_of(address, CURLUPART_URL);
  }
}

ContentRange parse_content_range(std::string_view value) {
  constexpr std::string_view kUnit = "bytes ";
  if (!value.starts_with(kUnit)) {
    return {};
  }
  value.remove_prefix(kUnit.size());
  ContentRange range;
  int64_t last = 0;
  int64_t total = 0;
  if (!take_number(value, range.start, "-") || !take_number(value, last, "/") ||
      last < range.start) {
    return {};
  }
  if (value == "*") {
    return range;
  }
  if (!take_number(value, total, "") || !value.empty() || last >= total) {
    return {};
  }
  range.total = total;
  return range;
}

bool is_strong_entity_tag(std::string_view tag) {
  return tag.size() >= 2 && tag.size() <= 200 && tag.front() == '"' && tag.back() == '"' &&
         std::all_of(tag.begin(), tag.end(), [](char character) {
           return character > ' ' && character < 0x7f;
         });
}

}  // namespace adze::data
