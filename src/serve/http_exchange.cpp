#include "serve/http_exchange.h"

#include <algorithm>
#include <cctype>
#include <random>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>
#include <poll.h>

namespace adze::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::awaitable;
using asio::ip::tcp;
using SystemError = boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr int kClientLeft = 499;  // as nginx logs it
constexpr size_t kLongestId = 128;
constexpr std::chrono::milliseconds kWatchPause(200);

// The caller's own, where it can go into a header and a log.
std::string request_id(std::string_view given) {
  const auto legal = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  };
  if (!given.empty() && given.size() <= kLongestId &&
      std::all_of(given.begin(), given.end(), legal)) {
    return std::string(given);
  }
  static thread_local std::mt19937_64 random(std::random_device{}());
  return fmt::format("req_{:016x}{:016x}", random(), random());
}

bool has_ended(int socket) {
  pollfd query{.fd = socket, .events = POLLRDHUP, .revents = 0};
  return ::poll(&query, 1, 0) > 0 && (query.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace

HttpExchange::HttpExchange(boost::beast::tcp_stream& stream,
                           const HttpLimits& limits,
                           HttpRequest request)
    : stream_(stream),
      limits_(limits),
      request_(std::move(request)),
      id_(request_id(request_.header("x-request-id"))) {
  headers_["X-Request-Id"] = id_;
}

HttpExchange::~HttpExchange() {
  if (watch_) {
    watch_->over = true;
  }
}

awaitable<void> HttpExchange::respond(HttpResponse response) {
  http::response<http::string_body> message{static_cast<http::status>(response.status), 11};
  status_ = response.status;
  response.headers.insert(headers_.begin(), headers_.end());
  for (const auto& [name, value] : response.headers) {
    message.set(name, value);
  }
  message.set(http::field::content_type, response.content_type);
  message.keep_alive(keep_alive_);
  message.body() = std::move(response.body);
  message.prepare_payload();
  const bool head = request_.method == "HEAD";
  if (head) {
    message.body().clear();
  }
  started_ = true;
  stream_.expires_after(limits_.write_timeout);
  http::response_serializer<http::string_body> serializer(message);
  const auto [error, bytes] = head ? co_await http::async_write_header(stream_, serializer, kAwait)
                                   : co_await http::async_write(stream_, serializer, kAwait);
  count(error, bytes);
  complete_ = true;
}

awaitable<void> HttpExchange::refuse(const ApiError& failure) {
  HttpResponse response;
  response.status = failure.status();
  response.body =
      failure.body().dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  if (failure.status() == 429 || failure.status() == 503) {
    response.headers["Retry-After"] = "1";
  }
  if (failure.status() >= 500) {
    note_ = failure.what();
  }
  co_await respond(std::move(response));
}

awaitable<void> HttpExchange::begin_events() {
  http::response<http::empty_body> message{http::status::ok, 11};
  message.set(http::field::content_type, "text/event-stream; charset=utf-8");
  message.set(http::field::cache_control, "no-cache");
  message.set("X-Accel-Buffering", "no");
  for (const auto& [name, value] : headers_) {
    message.set(name, value);
  }
  keep_alive_ = keep_alive_ && !old_client_;  // the end of the connection ends the events
  message.keep_alive(keep_alive_);
  message.chunked(!old_client_);
  status_ = 200;
  started_ = true;
  stream_.expires_after(limits_.write_timeout);
  http::response_serializer<http::empty_body> serializer(message);
  const auto [error, bytes] = co_await http::async_write_header(stream_, serializer, kAwait);
  count(error, bytes);
}

awaitable<void> HttpExchange::send_event(std::string data) {
  std::string payload = "data: " + data + "\n\n";
  if (!old_client_) {
    payload = fmt::format("{:x}\r\n{}\r\n", payload.size(), payload);
  }
  co_await write(std::move(payload));
}

awaitable<void> HttpExchange::end_events() {
  if (!old_client_) {
    co_await write("0\r\n\r\n");
  }
  complete_ = true;
}

void HttpExchange::watch_peer(std::shared_ptr<Signal> signal) {
  watch_ = std::make_shared<Watch>(stream_.get_executor());
  watch_->signal = std::move(signal);
  watch(watch_);
}

void HttpExchange::watch(const std::shared_ptr<Watch>& watch) {
  const auto look = [this, watch](SystemError error) {
    if (watch->over || error == asio::error::operation_aborted) {
      return;
    }
    if (has_ended(stream_.socket().native_handle())) {
      watch->gone = true;
      watch->signal->notify();
      return;
    }
    // Bytes of the next request stay, and the socket readable: look again by the clock.
    watch->timer.expires_after(kWatchPause);
    watch->timer.async_wait([this, watch](SystemError timer_error) {
      if (!watch->over && !timer_error) {
        this->watch(watch);
      }
    });
  };
  stream_.socket().async_wait(tcp::socket::wait_read, look);
}

void HttpExchange::end_watch() {
  if (watch_) {
    watch_->over = true;
    watch_->timer.cancel();
    SystemError ignored;
    stream_.socket().cancel(ignored);
  }
}

AccessRecord HttpExchange::record(double seconds) const {
  return {.id = id_,
          .method = request_.method,
          .path = request_.path,
          .peer = request_.peer,
          .status = complete_ ? status_ : kClientLeft,
          .bytes_sent = bytes_sent_,
          .seconds = seconds,
          .note = note_};
}

awaitable<void> HttpExchange::write(std::string bytes) {
  stream_.expires_after(limits_.write_timeout);
  const auto [error, sent] = co_await asio::async_write(stream_, asio::buffer(bytes), kAwait);
  count(error, sent);
}

void HttpExchange::count(SystemError error, size_t bytes) {
  bytes_sent_ += static_cast<int64_t>(bytes);
  if (error) {
    gone_ = true;
    throw PeerGone();
  }
}

}  // namespace adze::serve
