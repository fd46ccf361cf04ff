#include "data/hub_http.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <utility>

#include <curl/curl.h>

#include "core/env.h"
#include "core/error.h"
#include "data/hub_url.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

constexpr int kMaxRedirects = 8;
// A hub's headers are about 2 kB.
constexpr size_t kMaxHeaderBytes = 256 << 10;
// The text of an error page is thrown away; more than this is not waited for.
constexpr int64_t kMaxErrorBytes = 1 << 20;

bool is_token(std::string_view token) {
  return std::all_of(token.begin(), token.end(), [](char character) {
    return character > ' ' && character < 0x7f;
  });
}

NetworkFault fault_of(CURLcode code, bool connected) {
  switch (code) {
    case CURLE_OK:
      return NetworkFault::kNone;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
      return NetworkFault::kUnreachable;
    case CURLE_OPERATION_TIMEDOUT:
      return connected ? NetworkFault::kSilent : NetworkFault::kUnreachable;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
      return NetworkFault::kUntrusted;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return NetworkFault::kBroken;
    case CURLE_ABORTED_BY_CALLBACK:
      return NetworkFault::kStopped;
    default:
      return NetworkFault::kRefused;
  }
}

std::string header(CURL* handle, const char* name) {
  curl_header* found = nullptr;
  return curl_easy_header(handle, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
                                                                                  : "";
}

// A stranger's text as it may stand in a message.
std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 200));
  std::replace_if(
      shown.begin(),
      shown.end(),
      [](char character) { return character < ' ' || character >= 0x7f; },
      '?');
  return shown;
}

class HeaderList {
 public:
  HeaderList() = default;
  ~HeaderList() { curl_slist_free_all(list_); }
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;

  void add(const std::string& line) {
    curl_slist* longer = curl_slist_append(list_, line.c_str());
    if (longer == nullptr) {
      throw std::bad_alloc();
    }
    list_ = longer;
  }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

}  // namespace

HubAccess hub_access() {
  HubAccess access;
  if (const auto endpoint = core::environment("HF_ENDPOINT")) {
    access.endpoint = *endpoint;
  }
  while (access.endpoint.ends_with('/')) {
    access.endpoint.pop_back();
  }
  if (!is_endpoint(access.endpoint)) {
    throw core::error("HF_ENDPOINT",
                      "expected https://HOST[:PORT][/PATH], got {}",
                      formats::quote_untrusted(access.endpoint));
  }
  access.token = core::environment("HF_TOKEN").value_or("");
  if (!is_token(access.token)) {
    throw core::error("HF_TOKEN", "expected a token without spaces or control characters, got one");
  }
  return access;
}

struct HttpClient::Transfer {
  CURL* handle = nullptr;
  const ReadBody* read = nullptr;
  const std::function<bool()>* stopped = nullptr;
  std::string url;
  HttpReply reply;
  size_t header_bytes = 0;
  int64_t body_bytes = 0;
  int64_t seen_bytes = 0;
  std::chrono::steady_clock::time_point seen_at = std::chrono::steady_clock::now();
  std::chrono::seconds patience{};
  bool silent = false;  // for longer than that
  bool headers_read = false;
  std::exception_ptr failure;
  HeaderList headers;
  std::array<char, CURL_ERROR_SIZE> message = {};

  void read_headers() {
    if (std::exchange(headers_read, true)) {
      return;
    }
    long status = 0;  // NOLINT(google-runtime-int): curl's type
    curl_off_t length = -1;
    curl_off_t retry_seconds = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry_seconds);
    reply.status = status;
    reply.retry_seconds = retry_seconds;
    reply.content_total = length;
    if (status == 206) {
      const ContentRange range = parse_content_range(header(handle, "Content-Range"));
      reply.content_start = range.start;
      reply.content_total = range.total;
    }
    reply.entity_tag = header(handle, "ETag");
    if (!is_strong_entity_tag(reply.entity_tag)) {
      reply.entity_tag.clear();
    }
    reply.next_page = next_page_url(header(handle, "Link"), url);
    reply.error_code = header(handle, "X-Error-Code");
  }

  // Sets fault and reason.
  void judge(CURLcode code) {
    curl_off_t connect_microseconds = 0;
    curl_easy_getinfo(handle, CURLINFO_CONNECT_TIME_T, &connect_microseconds);
    reply.fault = fault_of(code, connect_microseconds > 0);
    const std::string_view detail(message.data());
    reply.reason = printable(detail.empty() ? curl_easy_strerror(code) : detail);
    if (silent) {
      reply.fault = NetworkFault::kSilent;
      reply.reason = fmt::format("no byte in {} s", patience.count());
    } else if (code == CURLE_WRITE_ERROR && header_bytes > kMaxHeaderBytes) {
      reply.reason = fmt::format("it sends more than {} bytes of headers", kMaxHeaderBytes);
    } else if (code == CURLE_WRITE_ERROR && body_bytes > kMaxErrorBytes) {
      reply.fault = NetworkFault::kNone;  // an endless error page: its status says enough
    }
  }

  static size_t on_header(char*, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    transfer.header_bytes += size * count;
    return transfer.header_bytes > kMaxHeaderBytes ? 0 : size * count;
  }

  static size_t on_body(char* bytes, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const size_t length = size * count;
    transfer.body_bytes += static_cast<int64_t>(length);
    try {
      transfer.read_headers();
      if (transfer.reply.status == 200 || transfer.reply.status == 206) {
        (*transfer.read)(transfer.reply, std::as_bytes(std::span(bytes, length)));
        return length;
      }
    } catch (...) {
      transfer.failure = std::current_exception();  // C code is between here and get()
      return 0;
    }
    return transfer.body_bytes > kMaxErrorBytes ? 0 : length;
  }

  // Called about once a second at least. libcurl's own limit averages over several seconds and
  // takes headers that drip for an answer; here only the body counts.
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& transfer = *static_cast<Transfer*>(self);
    const auto now = std::chrono::steady_clock::now();
    if (transfer.body_bytes != transfer.seen_bytes) {
      transfer.seen_bytes = transfer.body_bytes;
      transfer.seen_at = now;
    }
    transfer.silent = now - transfer.seen_at > transfer.patience;
    return transfer.silent || (*transfer.stopped)() ? 1 : 0;
  }
};

HttpClient::HttpClient(HubAccess access, int64_t timeout_seconds, std::function<bool()> stopped)
    : access_(std::move(access)),
      timeout_seconds_(timeout_seconds),
      stopped_(std::move(stopped)),
      handle_(nullptr, curl_easy_cleanup) {
  static std::once_flag initialised;
  std::call_once(initialised, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  handle_.reset(curl_easy_init());
  if (handle_ == nullptr) {
    throw core::error("pull", "the network library failed, out of memory perhaps");
  }
}

HttpClient::~HttpClient() = default;

HttpReply HttpClient::get(const HttpRequest& request, const ReadBody& read) {
  std::string url = request.url;
  HttpReply reply;
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    std::string redirect;
    reply = transfer(url, request, read, redirect);
    if (redirect.empty()) {
      return reply;
    }
    if (url_scheme(redirect) != "https" &&
        (url_scheme(redirect) != "http" || url_scheme(url) != "http")) {
      reply.fault = NetworkFault::kRefused;
      reply.reason =
          "it redirects from " + url_scheme(url) + " to " + formats::quote_untrusted(redirect);
      return reply;
    }
    url = redirect;
  }
  reply.fault = NetworkFault::kRefused;
  reply.reason = fmt::format("it redirects more than {} times", kMaxRedirects);
  return reply;
}

void HttpClient::configure(Transfer& state, const HttpRequest& request) const {
  if (!access_.token.empty() && may_receive_token(access_.endpoint, state.url)) {
    state.headers.add("Authorization: Bearer " + access_.token);
  }
  if (request.offset > 0) {
    state.headers.add(fmt::format("Range: bytes={}-", request.offset));
    if (!request.entity_tag.empty()) {
      state.headers.add("If-Range: " + request.entity_tag);
    }
  }
  curl_easy_reset(state.handle);
  const auto set = [&](CURLoption option, auto value) {
    if (curl_easy_setopt(state.handle, option, value) != CURLE_OK) {
      throw core::error("pull", "the network library lacks option {}", static_cast<int>(option));
    }
  };
  set(CURLOPT_URL, state.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTPHEADER, state.headers.get());
  set(CURLOPT_USERAGENT, "adze");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(timeout_seconds_));
  set(CURLOPT_TIMEOUT, static_cast<long>(request.max_seconds));
  set(CURLOPT_ERRORBUFFER, state.message.data());
  set(CURLOPT_HEADERFUNCTION, Transfer::on_header);
  set(CURLOPT_HEADERDATA, &state);
  set(CURLOPT_WRITEFUNCTION, Transfer::on_body);
  set(CURLOPT_WRITEDATA, &state);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, Transfer::on_progress);
  set(CURLOPT_XFERINFODATA, &state);
  if (is_loopback_url(state.url)) {
    set(CURLOPT_PROXY, "");  // never through another machine, whatever no_proxy says
  }
  // OpenSSL's own variables; libcurl has a path of its own built in, which hides them.
  if (const auto file = core::environment("SSL_CERT_FILE")) {
    set(CURLOPT_CAINFO, file->c_str());
  }
  if (const auto folder = core::environment("SSL_CERT_DIR")) {
    set(CURLOPT_CAPATH, folder->c_str());
  }
}

HttpReply HttpClient::transfer(const std::string& url,
                               const HttpRequest& request,
                               const ReadBody& read,
                               std::string& redirect) {
  Transfer state;
  state.handle = handle_.get();
  state.read = &read;
  state.stopped = &stopped_;
  state.url = url;
  state.patience = std::chrono::seconds(timeout_seconds_);
  state.reply.host = printable(url_host(url));
  configure(state, request);
  const CURLcode code = curl_easy_perform(state.handle);
  if (state.failure) {
    std::rethrow_exception(state.failure);
  }
  state.judge(code);
  if (state.reply.fault == NetworkFault::kNone) {
    state.read_headers();
    const char* location = nullptr;
    curl_easy_getinfo(state.handle, CURLINFO_REDIRECT_URL, &location);
    if (location != nullptr && state.reply.status >= 300 && state.reply.status < 400) {
      redirect = location;
    }
  }
  return state.reply;
}

}  // namespace adze::data
