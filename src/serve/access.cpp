#include "serve/access.h"

#include <algorithm>
#include <cctype>

#include <boost/asio/ip/address.hpp>
#include <boost/beast/core/detail/base64.hpp>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

namespace adze::serve {
namespace {

bool is_loopback(std::string_view host) {
  std::string name(host);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  if (name == "localhost") {
    return true;
  }
  if (name.starts_with('[') && name.ends_with(']')) {
    name = name.substr(1, name.size() - 2);
  }
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(name, error);
  return !error && address.is_loopback();
}

// "localhost:8080" -> "localhost", "[::1]:80" -> "[::1]"
std::string_view without_port(std::string_view host) {
  const size_t colon = host.rfind(':');
  const size_t bracket = host.rfind(']');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) {
    return host;
  }
  return host.substr(0, colon);
}

// The key of "Bearer KEY", or the password of "Basic ...", which is what browsers can send.
std::string key_of(std::string_view authorization) {
  if (authorization.starts_with("Bearer ")) {
    return std::string(authorization.substr(7));
  }
  if (authorization.starts_with("Basic ")) {
    const std::string_view encoded = authorization.substr(6);
    std::string pair(boost::beast::detail::base64::decoded_size(encoded.size()), '\0');
    pair.resize(
        boost::beast::detail::base64::decode(pair.data(), encoded.data(), encoded.size()).first);
    const size_t colon = pair.find(':');
    return colon == std::string::npos ? "" : pair.substr(colon + 1);
  }
  return "";
}

}  // namespace

Access::Access(std::string host,
               const std::vector<std::string>& keys,
               std::optional<std::string> cors_origin)
    : host_(std::move(host)), cors_origin_(std::move(cors_origin)) {
  for (const std::string& key : keys) {
    keys_.push_back(digest_of(key));
  }
}

Access::Digest Access::digest_of(std::string_view text) {
  Digest digest;
  static_assert(digest.size() == SHA256_DIGEST_LENGTH);
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

void Access::check_origin(const HttpRequest& request) const {
  // A page of another origin must not reach a server of this machine through a name of its own.
  const std::string_view host_name = without_port(request.header("host"));
  if (is_loopback(host_) && !is_loopback(host_name)) {
    throw ApiError(403,
                   "permission_error",
                   fmt::format("[Host] expected localhost or a loopback address, got {}",
                               std::string(host_name.substr(0, 100))),
                   "Host");
  }
  // Nor may it use the credentials that a browser adds by itself.
  const std::string_view site = request.header("sec-fetch-site");
  const bool foreign = site == "cross-site" || site == "same-site";
  const bool allowed = cors_origin_ == "*" ? !request.header("authorization").starts_with("Basic ")
                                           : request.header("origin") == cors_origin_.value_or("-");
  if ((request.method == "POST" || request.method == "DELETE") && foreign && !allowed) {
    throw ApiError(403,
                   "permission_error",
                   "[Origin] expected this server's own pages, or those of --cors-origin",
                   "Origin");
  }
}

std::string Access::tenant_of(const HttpRequest& request) const {
  if (keys_.empty()) {
    return "";
  }
  const std::string given = key_of(request.header("authorization"));
  const Digest digest = digest_of(given);
  bool known = false;
  for (const Digest& key : keys_) {  // all of them, whichever fits
    known |= CRYPTO_memcmp(key.data(), digest.data(), digest.size()) == 0;
  }
  if (!known || given.empty()) {
    throw ApiError(401,
                   "authentication_error",
                   "[Authorization] expected Bearer and a key of this server",
                   "",
                   "invalid_api_key");
  }
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string Access::allowed_headers(const HttpRequest& request) {
  constexpr size_t kMostBytes = 1024;
  const std::string_view asked = request.header("access-control-request-headers");
  const auto legal = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 128 && (std::isalnum(byte) != 0 ||
                          std::string_view("!#$%&'*+-.^_`|~, ").find(c) != std::string_view::npos);
  };
  return !asked.empty() && asked.size() <= kMostBytes &&
                 std::all_of(asked.begin(), asked.end(), legal)
             ? std::string(asked)
             : "Authorization, Content-Type, X-Request-Id";
}

void Access::add_headers(Exchange& exchange) const {
  if (cors_origin_) {
    exchange.set_header("Access-Control-Allow-Origin", *cors_origin_);
    exchange.set_header("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    exchange.set_header("Vary", "Origin");
  }
  const HttpRequest& request = exchange.request();
  if (!keys_.empty() && request.header("authorization").empty()) {
    // Browsers ask their user for the page's key.
    const bool page = request.path == "/" || request.path == "/lab" || request.path == "/runs" ||
                      request.path.starts_with("/web/");
    exchange.set_header("WWW-Authenticate", page ? "Basic realm=\"adze\"" : "Bearer");
  }
}

}  // namespace adze::serve
