#include "serve/http_server.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include "core/error.h"
#include "serve/api_error.h"

namespace adze::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::awaitable;
using asio::ip::tcp;
using SystemError = boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return result;
}

}  // namespace

struct Signal::Implementation {
  asio::steady_timer timer;
  uint64_t notified = 0;
  uint64_t seen = 0;
};

Signal::Signal(asio::io_context& context)
    : implementation_(new Implementation{asio::steady_timer(context)}) {}
Signal::~Signal() = default;

void Signal::notify() {
  ++implementation_->notified;
  implementation_->timer.cancel();
}

awaitable<void> Signal::wait() {
  Implementation& self = *implementation_;
  if (self.notified == self.seen) {
    self.timer.expires_at(std::chrono::steady_clock::time_point::max());
    co_await self.timer.async_wait(kAwait);
  }
  self.seen = self.notified;
}

struct HttpServer::Implementation : std::enable_shared_from_this<HttpServer::Implementation> {
  asio::io_context& context;
  HttpLimits limits;
  Handler handler;
  AccessLog log;
  std::optional<tcp::acceptor> acceptor;
  int64_t connections = 0;
  int64_t exchanges = 0;
  bool closing = false;
  std::set<beast::tcp_stream*> idle;

  Implementation(asio::io_context& c, const HttpLimits& l, Handler h, AccessLog a)
      : context(c), limits(l), handler(std::move(h)), log(std::move(a)) {}

  awaitable<void> accept();
  awaitable<void> serve(tcp::socket socket);
  awaitable<bool> serve_one(beast::tcp_stream& stream, beast::flat_buffer& buffer);
};

namespace {

class BeastExchange : public Exchange {
 public:
  BeastExchange(beast::tcp_stream& stream,
                const HttpLimits& limits,
                HttpRequest request,
                bool keep_alive,
                bool head)
      : stream_(stream),
        limits_(limits),
        request_(std::move(request)),
        keep_alive_(keep_alive),
        head_(head) {}
  ~BeastExchange() override {
    if (watch_) {
      watch_->over = true;
    }
  }

  const HttpRequest& request() const override { return request_; }

  void set_header(const std::string& name, const std::string& value) override {
    headers_[name] = value;
  }

  awaitable<void> respond(HttpResponse response) override {
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
    if (head_) {
      message.body().clear();
    }
    started_ = true;
    stream_.expires_after(limits_.write_timeout);
    http::response_serializer<http::string_body> serializer(message);
    const auto [error, bytes] = head_
                                    ? co_await http::async_write_header(stream_, serializer, kAwait)
                                    : co_await http::async_write(stream_, serializer, kAwait);
    count(error, bytes);
    complete_ = true;
  }

  awaitable<void> begin_events() override {
    http::response<http::empty_body> message{http::status::ok, 11};
    message.set(http::field::content_type, "text/event-stream; charset=utf-8");
    message.set(http::field::cache_control, "no-cache");
    message.set("X-Accel-Buffering", "no");
    for (const auto& [name, value] : headers_) {
      message.set(name, value);
    }
    message.keep_alive(keep_alive_);
    message.chunked(true);
    status_ = 200;
    started_ = true;
    stream_.expires_after(limits_.write_timeout);
    http::response_serializer<http::empty_body> serializer(message);
    const auto [error, bytes] = co_await http::async_write_header(stream_, serializer, kAwait);
    count(error, bytes);
  }

  awaitable<void> send_event(std::string data) override {
    const std::string payload = "data: " + data + "\n\n";
    co_await write(fmt::format("{:x}\r\n{}\r\n", payload.size(), payload));
  }

  awaitable<void> end_events() override {
    co_await write("0\r\n\r\n");
    complete_ = true;
  }

  void watch_peer(std::shared_ptr<Signal> signal) override {
    watch_ = std::make_shared<Watch>();
    watch_->signal = std::move(signal);
    watch(watch_);
  }
  bool peer_gone() const override { return gone_ || (watch_ && watch_->gone); }

  bool started() const { return started_; }
  bool complete() const { return complete_; }
  bool keep_alive() const { return keep_alive_; }
  int status() const { return status_; }
  int64_t bytes_sent() const { return bytes_sent_; }
  // Ends the watching; the socket has no other operation then.
  void end_watch() {
    if (watch_) {
      watch_->over = true;
      SystemError ignored;
      stream_.socket().cancel(ignored);
    }
  }

 private:
  struct Watch {
    std::shared_ptr<Signal> signal;
    bool over = false;
    bool gone = false;
  };

  void watch(const std::shared_ptr<Watch>& watch) {
    stream_.socket().async_wait(tcp::socket::wait_read, [this, watch](SystemError error) {
      if (watch->over || error == asio::error::operation_aborted) {
        return;
      }
      // Readable: the next request of a client that pipelines, or the end.
      char byte;
      SystemError peek_error;
      stream_.socket().non_blocking(true, peek_error);
      const size_t count =
          stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, peek_error);
      if (peek_error == asio::error::would_block) {
        this->watch(watch);
      } else if (peek_error || count == 0) {
        watch->gone = true;
        watch->signal->notify();
      }
    });
  }

  awaitable<void> write(std::string bytes) {
    stream_.expires_after(limits_.write_timeout);
    const auto [error, count_sent] =
        co_await asio::async_write(stream_, asio::buffer(bytes), kAwait);
    count(error, count_sent);
  }

  void count(SystemError error, size_t bytes) {
    bytes_sent_ += static_cast<int64_t>(bytes);
    if (error) {
      gone_ = true;
      throw boost::system::system_error(error);
    }
  }

  beast::tcp_stream& stream_;
  const HttpLimits& limits_;
  HttpRequest request_;
  std::map<std::string, std::string> headers_;
  bool keep_alive_;
  bool head_;
  bool started_ = false;
  bool complete_ = false;
  bool gone_ = false;
  int status_ = 0;
  int64_t bytes_sent_ = 0;
  std::shared_ptr<Watch> watch_;
};

// Errors of a request that could not be read as one.
std::optional<int> status_of(SystemError error) {
  if (error == http::error::body_limit) {
    return 413;
  }
  if (error == http::error::header_limit) {
    return 431;
  }
  if (error == beast::error::timeout) {
    return 408;
  }
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return 400;
  }
  return std::nullopt;
}

}  // namespace

// False: the connection is to be closed.
// NOTE: GCC 12 destroys braced temporaries of a co_await expression twice: name them first.
awaitable<bool> HttpServer::Implementation::serve_one(beast::tcp_stream& stream,
                                                      beast::flat_buffer& buffer) {
  http::request_parser<http::string_body> parser;
  parser.body_limit(static_cast<uint64_t>(limits.body_bytes));
  parser.header_limit(static_cast<uint32_t>(limits.header_bytes));
  SystemError error;
  if (buffer.size() == 0) {  // idle until the first byte
    idle.insert(&stream);
    stream.expires_after(limits.idle_timeout);
    const auto [wait_error, bytes] = co_await stream.async_read_some(buffer.prepare(4096), kAwait);
    idle.erase(&stream);
    if (wait_error) {
      co_return false;
    }
    buffer.commit(bytes);
  }
  stream.expires_after(limits.read_timeout);
  const auto [header_error, header_bytes] =
      co_await http::async_read_header(stream, buffer, parser, kAwait);
  error = header_error;
  if (!error && lower(parser.get()[http::field::expect]) == "100-continue") {
    http::response<http::empty_body> proceed{http::status::continue_, 11};
    co_await http::async_write(stream, proceed, kAwait);
  }
  if (!error) {
    stream.expires_after(limits.read_timeout);
    const auto [body_error, body_bytes] = co_await http::async_read(stream, buffer, parser, kAwait);
    error = body_error;
  }
  const auto start = std::chrono::steady_clock::now();
  HttpRequest request;
  SystemError ignored;
  request.peer = stream.socket().remote_endpoint(ignored).address().to_string();
  if (error) {
    if (const auto status = status_of(error)) {
      BeastExchange exchange(stream, limits, request, false, false);
      const ApiError refused(
          *status, "invalid_request_error", fmt::format("[request] {}", error.message()));
      HttpResponse response;
      response.status = *status;
      response.body = refused.body().dump();
      co_await exchange.respond(std::move(response));
      log({"", "", request.peer, *status, exchange.bytes_sent(), 0});
    }
    co_return false;
  }
  auto message = parser.release();
  request.method = std::string(message.method_string());
  const std::string_view target(message.target().data(), message.target().size());
  request.path = std::string(target.substr(0, target.find('?')));
  request.body = std::move(message.body());
  for (const auto& field : message) {
    request.headers.emplace(lower(field.name_string()), std::string(field.value()));
  }
  const bool head = message.method() == http::verb::head;
  BeastExchange exchange(
      stream, limits, std::move(request), message.keep_alive() && !closing, head);
  ++exchanges;
  bool ours_failed = false;
  ApiError failure(500, "server_error", "");
  try {
    co_await handler(exchange);
  } catch (const boost::system::system_error&) {
    // The peer has gone.
  } catch (const std::exception& caught) {
    failure = to_api_error(caught);
    ours_failed = true;
  }
  --exchanges;
  exchange.end_watch();
  if (ours_failed && !exchange.started()) {
    HttpResponse response{.status = failure.status(),
                          .content_type = "application/json",
                          .body = failure.body().dump(
                              -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace),
                          .headers = {}};
    if (failure.status() == 429 || failure.status() == 503) {
      response.headers["Retry-After"] = "1";
    }
    try {
      co_await exchange.respond(std::move(response));
    } catch (const boost::system::system_error&) {
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log({exchange.request().method,
       exchange.request().path,
       exchange.request().peer,
       exchange.status(),
       exchange.bytes_sent(),
       seconds});
  co_return exchange.complete() && exchange.keep_alive() && !exchange.peer_gone() && !closing;
}

awaitable<void> HttpServer::Implementation::serve(tcp::socket socket) {
  const auto self = shared_from_this();
  ++connections;
  SystemError ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  beast::tcp_stream stream(std::move(socket));
  beast::flat_buffer buffer(static_cast<size_t>(limits.header_bytes + limits.body_bytes) + 65536);
  try {
    while (co_await serve_one(stream, buffer)) {
    }
  } catch (const std::exception&) {
    // A connection that breaks ends alone.
  }
  idle.erase(&stream);
  // What the peer still sends is read for a moment, lest the answer be lost in a reset.
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::vector<char> rest(1 << 16);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < deadline) {
    stream.expires_after(std::chrono::seconds(1));
    const auto [error, bytes] = co_await stream.async_read_some(asio::buffer(rest), kAwait);
    if (error) {
      break;
    }
  }
  --connections;
}

awaitable<void> HttpServer::Implementation::accept() {
  const auto self = shared_from_this();
  while (acceptor && acceptor->is_open()) {
    auto [error, socket] = co_await acceptor->async_accept(kAwait);
    if (error == asio::error::operation_aborted || !acceptor->is_open()) {
      co_return;
    }
    if (error) {  // out of descriptors: others end
      asio::steady_timer pause(context, std::chrono::milliseconds(50));
      co_await pause.async_wait(kAwait);
      continue;
    }
    if (connections >= limits.connections) {
      continue;  // closes the socket
    }
    asio::co_spawn(context, serve(std::move(socket)), asio::detached);
  }
}

HttpServer::HttpServer(asio::io_context& context,
                       const HttpLimits& limits,
                       Handler handler,
                       AccessLog log)
    : implementation_(
          std::make_shared<Implementation>(context, limits, std::move(handler), std::move(log))) {}

HttpServer::~HttpServer() = default;

int HttpServer::listen(const std::string& host, int port) {
  Implementation& self = *implementation_;
  SystemError error;
  const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  if (error) {
    throw core::InvalidOption("host", host, "an IP address or localhost");
  }
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(port));
  try {
    self.acceptor.emplace(self.context);
    self.acceptor->open(endpoint.protocol());
    self.acceptor->set_option(asio::socket_base::reuse_address(true));
    self.acceptor->bind(endpoint);
    self.acceptor->listen(4096);
  } catch (const boost::system::system_error& failure) {
    throw core::error("port", "cannot listen on {}:{}: {}", host, port, failure.code().message());
  }
  asio::co_spawn(self.context, self.accept(), asio::detached);
  return self.acceptor->local_endpoint().port();
}

void HttpServer::stop_listening() {
  if (implementation_->acceptor) {
    SystemError ignored;
    implementation_->acceptor->close(ignored);
  }
}

void HttpServer::close_idle() {
  implementation_->closing = true;
  for (beast::tcp_stream* stream : implementation_->idle) {
    stream->cancel();
  }
}

int64_t HttpServer::open_connections() const {
  return implementation_->connections;
}
int64_t HttpServer::active_exchanges() const {
  return implementation_->exchanges;
}

}  // namespace adze::serve
