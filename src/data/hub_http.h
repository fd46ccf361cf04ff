#pragma once
// HTTP GET as a hub needs it (RFC 9110): ranges, redirects that a token does not follow to another
// host, nothing that grows or lasts without bound. Transfers are libcurl's; proxies are those that
// the environment names (http_proxy, https_proxy, no_proxy).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace adze::data {

struct HubAccess {
  std::string endpoint = "https://huggingface.co";  // without a slash at the end
  std::string token;                                // empty: none
};

// From HF_ENDPOINT and HF_TOKEN. Throws core::Error: not an http or https address, a token with
// spaces or control characters.
HubAccess hub_access();

enum class NetworkFault {
  kNone,         // there is a status
  kUnreachable,  // no such host, no connection, no proxy
  kUntrusted,    // TLS: certificate, protocol
  kBroken,       // the connection ended within an answer
  kSilent,       // nothing came for too long
  kStopped,      // the caller's wish
  kRefused       // an answer that this client does not accept
};

struct HttpRequest {
  std::string url;
  int64_t offset = 0;       // first byte wanted
  std::string entity_tag;   // of the content that the bytes before `offset` belong to; may be empty
  int64_t max_seconds = 0;  // for all of it; 0: no limit as long as bytes come
};

struct HttpReply {
  NetworkFault fault = NetworkFault::kNone;
  std::string reason;  // of the fault, one line
  std::string host;    // that answered last, or did not
  int64_t status = 0;
  int64_t content_start = -1;  // of Content-Range; -1: none
  int64_t content_total = -1;  // bytes of the whole content; -1: not said
  int64_t retry_seconds = 0;   // of Retry-After
  std::string entity_tag;      // empty where it is weak: only a strong one joins parts
  std::string next_page;       // absolute address of Link: rel="next"
  std::string error_code;      // X-Error-Code: RepoNotFound, GatedRepo, ...
};

// Gets the body of an answer with status 200 or 206 piece by piece; what it throws comes out of
// get(). The reply's headers are set.
using ReadBody = std::function<void(const HttpReply& reply, std::span<const std::byte> bytes)>;

class HttpClient {
 public:
  // timeout_seconds: for a connection, and without a byte. `stopped` is asked while waiting.
  HttpClient(HubAccess access, int64_t timeout_seconds, std::function<bool()> stopped);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Follows redirects, eight at most, never from https to http.
  HttpReply get(const HttpRequest& request, const ReadBody& read);

 private:
  struct Transfer;
  void configure(Transfer& state, const HttpRequest& request) const;
  HttpReply transfer(const std::string& url,
                     const HttpRequest& request,
                     const ReadBody& read,
                     std::string& redirect);

  HubAccess access_;
  int64_t timeout_seconds_;
  std::function<bool()> stopped_;
  std::unique_ptr<void, void (*)(void*)> handle_;  // CURL; keeps connections between requests
};

}  // namespace adze::data
