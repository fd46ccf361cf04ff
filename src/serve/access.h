#pragma once
// Who may ask: Host and Origin against other pages of a browser, keys against strangers.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "serve/http_server.h"

namespace adze::serve {

class Access {
 public:
  // host: that the server is bound to; no keys: none is asked for.
  Access(std::string host,
         const std::vector<std::string>& keys,
         std::optional<std::string> cors_origin);

  // Throws ApiError (403): a page that has no business here.
  void check_origin(const HttpRequest& request) const;
  // A name of the key that is safe to store. Throws ApiError (401): none, or a wrong one.
  std::string tenant_of(const HttpRequest& request) const;
  // What browsers read: whose pages may call, how to ask for a key.
  void add_headers(Exchange& exchange) const;
  // Of a preflight's answer: what it asks for, for clients have headers of their own.
  static std::string allowed_headers(const HttpRequest& request);
  bool is_preflight(const HttpRequest& request) const {  // which comes without a key
    return cors_origin_ && request.method == "OPTIONS";
  }

 private:
  using Digest = std::array<unsigned char, 32>;
  static Digest digest_of(std::string_view text);

  std::string host_;
  std::vector<Digest> keys_;
  std::optional<std::string> cors_origin_;
};

}  // namespace adze::serve
