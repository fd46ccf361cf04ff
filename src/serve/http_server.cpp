#include "serve/http_server.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <utility>
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
#include "serve/http_exchange.h"

namespace adze::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::awaitable;
using asio::ip::tcp;
using SystemError = boost::system::error_code;
using Parser = http::request_parser<http::string_body>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::seconds kLinger(5);  // for what a refused peer still sends
constexpr int64_t kMostTurnedAway = 256;    // connections that are told so at once
constexpr std::string_view kTurnedAway =
    "{\"error\":{\"message\":\"[connections] expected fewer at once; try again later\","
    "\"type\":\"server_error\",\"param\":null,\"code\":\"too_many_connections\"}}";

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return result;
}

// Ends what waits on a stream after a time. The stream's own timer would close the socket, and the
// peer could not be told.
class ReadLimit {
 public:
  ReadLimit(beast::tcp_stream& stream, std::chrono::seconds time)
      : state_(std::make_shared<State>(State{&stream, false})),
        timer_(stream.get_executor(), time) {
    stream.expires_never();
    timer_.async_wait([state = state_](SystemError error) {
      if (!error && state->stream != nullptr) {
        state->passed = true;
        state->stream->cancel();
      }
    });
  }
  ~ReadLimit() { state_->stream = nullptr; }
  bool passed() const { return state_->passed; }

 private:
  struct State {
    beast::tcp_stream* stream;
    bool passed;
  };
  std::shared_ptr<State> state_;
  asio::steady_timer timer_;
};

// Bytes of bodies that are being held.
class HeldBody {
 public:
  explicit HeldBody(int64_t& total) : total_(total) {}
  ~HeldBody() { total_ -= bytes_; }
  HeldBody(const HeldBody&) = delete;
  HeldBody& operator=(const HeldBody&) = delete;
  void set(int64_t bytes) {
    total_ += bytes - bytes_;
    bytes_ = bytes;
  }

 private:
  int64_t& total_;
  int64_t bytes_ = 0;
};

// Of a request that could not be read as one; null: no answer is due.
std::optional<ApiError> read_failure(SystemError error, bool too_late) {
  const auto failure = [](int status, const std::string& reason) {
    return ApiError(status, "invalid_request_error", "[request] " + reason);
  };
  if (too_late) {
    return failure(408, "expected the whole of it sooner");
  }
  if (error == http::error::body_limit) {
    return failure(413, error.message());
  }
  if (error == http::error::header_limit) {
    return failure(431, error.message());
  }
  if (error.category() == make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return failure(400, error.message());
  }
  return std::nullopt;
}

HttpRequest request_of(const http::request<http::string_body>& message,
                       const beast::tcp_stream& stream) {
  HttpRequest request;
  SystemError ignored;
  request.peer = stream.socket().remote_endpoint(ignored).address().to_string();
  request.method = std::string(message.method_string());
  const std::string_view target(message.target().data(), message.target().size());
  const size_t mark = target.find('?');
  request.path = std::string(target.substr(0, mark));
  request.query = mark == target.npos ? "" : std::string(target.substr(mark + 1));
  for (const auto& field : message) {
    request.headers.emplace(lower(field.name_string()), std::string(field.value()));
  }
  return request;
}

}  // namespace

struct HttpServer::Implementation : std::enable_shared_from_this<HttpServer::Implementation> {
  asio::io_context& context;
  HttpLimits limits;
  HttpHandlers handlers;
  std::optional<tcp::acceptor> acceptor;
  int64_t connections = 0;
  int64_t turned_away = 0;
  int64_t exchanges = 0;
  int64_t bodies_bytes = 0;
  bool closing = false;
  std::set<beast::tcp_stream*> idle;

  Implementation(asio::io_context& c, const HttpLimits& l, HttpHandlers h)
      : context(c), limits(l), handlers(std::move(h)) {}

  awaitable<void> accept();
  awaitable<void> serve(tcp::socket socket);
  awaitable<void> turn_away(tcp::socket socket);
  awaitable<void> linger(beast::tcp_stream& stream);
  awaitable<bool> serve_one(beast::tcp_stream& stream, beast::flat_buffer& buffer);
  awaitable<bool> wait_for_first_byte(beast::tcp_stream& stream, beast::flat_buffer& buffer);
  awaitable<void> read_body(beast::tcp_stream& stream,
                            beast::flat_buffer& buffer,
                            Parser& parser,
                            HeldBody& held,
                            SystemError& error);
  awaitable<void> answer(HttpExchange& exchange,
                         beast::tcp_stream& stream,
                         beast::flat_buffer& buffer,
                         Parser& parser);
};

awaitable<bool> HttpServer::Implementation::wait_for_first_byte(beast::tcp_stream& stream,
                                                                beast::flat_buffer& buffer) {
  if (buffer.size() > 0) {
    co_return true;
  }
  idle.insert(&stream);
  stream.expires_after(limits.idle_timeout);
  const auto [error, bytes] = co_await stream.async_read_some(buffer.prepare(4096), kAwait);
  idle.erase(&stream);
  buffer.commit(bytes);
  co_return !error;
}

// Throws ApiError where all bodies together are too many.
// NOTE: GCC 12 destroys braced temporaries of a co_await expression twice: name them first.
awaitable<void> HttpServer::Implementation::read_body(beast::tcp_stream& stream,
                                                      beast::flat_buffer& buffer,
                                                      Parser& parser,
                                                      HeldBody& held,
                                                      SystemError& error) {
  if (lower(parser.get()[http::field::expect]) == "100-continue") {
    http::response<http::empty_body> proceed{http::status::continue_, 11};
    co_await http::async_write(stream, proceed, kAwait);
  }
  while (!parser.is_done() && !error) {
    const auto [read_error, bytes] = co_await http::async_read_some(stream, buffer, parser, kAwait);
    error = read_error;
    held.set(static_cast<int64_t>(parser.get().body().size()));
    if (bodies_bytes > limits.bodies_bytes) {
      throw ApiError(503,
                     "server_error",
                     "[server] is reading as many requests as its memory allows; try again later",
                     "",
                     "too_many_bodies");
    }
  }
}

// The request's body, then its answer, whatever comes of it. Throws PeerGone.
awaitable<void> HttpServer::Implementation::answer(HttpExchange& exchange,
                                                   beast::tcp_stream& stream,
                                                   beast::flat_buffer& buffer,
                                                   Parser& parser) {
  HeldBody held(bodies_bytes);
  std::optional<ApiError> failure;
  try {
    const auto most = static_cast<uint64_t>(handlers.begin(exchange));
    parser.body_limit(most);
    SystemError error;
    bool too_late = false;
    if (parser.content_length() && *parser.content_length() > most) {
      error = http::error::body_limit;
    } else {
      const ReadLimit limit(stream, limits.read_timeout);
      co_await read_body(stream, buffer, parser, held, error);
      too_late = limit.passed();
    }
    if (error) {
      failure = read_failure(error, too_late);
      if (!failure) {
        throw PeerGone();
      }
    } else {
      exchange.set_keep_alive(parser.get().keep_alive() && !closing);
      exchange.set_body(std::move(parser.get().body()));
      co_await handlers.answer(exchange);
    }
  } catch (const PeerGone&) {
    throw;
  } catch (const std::exception& caught) {
    failure = to_api_error(caught);
  }
  if (failure && !exchange.started()) {
    // Where the body has not been read, what follows on the connection is not a request.
    exchange.set_keep_alive(parser.is_done() && parser.get().keep_alive() && !closing);
    co_await exchange.refuse(*failure);
  }
}

// False: the connection is to be closed.
awaitable<bool> HttpServer::Implementation::serve_one(beast::tcp_stream& stream,
                                                      beast::flat_buffer& buffer) {
  if (!co_await wait_for_first_byte(stream, buffer)) {
    co_return false;
  }
  Parser parser;
  parser.body_limit(static_cast<uint64_t>(limits.bodies_bytes));  // a route's is known later
  parser.header_limit(static_cast<uint32_t>(limits.header_bytes));
  SystemError error;
  bool too_late = false;
  {
    const ReadLimit limit(stream, limits.read_timeout);
    const auto [header_error, bytes] =
        co_await http::async_read_header(stream, buffer, parser, kAwait);
    error = header_error;
    too_late = limit.passed();
  }
  const auto start = std::chrono::steady_clock::now();
  HttpRequest request;
  if (!error) {
    request = request_of(parser.get(), stream);
  }
  HttpExchange exchange(stream, limits, std::move(request));
  if (!error && parser.get().version() < 11) {
    exchange.set_old_client();
  }
  ++exchanges;
  try {
    if (!error) {
      co_await answer(exchange, stream, buffer, parser);
    } else if (const auto failure = read_failure(error, too_late)) {
      co_await exchange.refuse(*failure);
    }
  } catch (const PeerGone&) {
  }
  exchange.end_watch();
  --exchanges;
  if (!error || exchange.started()) {
    handlers.log(exchange.record(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()));
  }
  co_return exchange.reusable() && !closing;
}

// What the peer still sends is read for a moment, lest the answer be lost in a reset.
awaitable<void> HttpServer::Implementation::linger(beast::tcp_stream& stream) {
  SystemError ignored;
  stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  std::vector<char> rest(1 << 16);
  const auto deadline = std::chrono::steady_clock::now() + kLinger;
  while (std::chrono::steady_clock::now() < deadline) {
    stream.expires_after(std::chrono::seconds(1));
    const auto [error, bytes] = co_await stream.async_read_some(asio::buffer(rest), kAwait);
    if (error) {
      break;
    }
  }
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
  co_await linger(stream);
  --connections;
}

// A connection beyond the limit gets its answer before it asks.
awaitable<void> HttpServer::Implementation::turn_away(tcp::socket socket) {
  const auto self = shared_from_this();
  ++turned_away;
  beast::tcp_stream stream(std::move(socket));
  HttpExchange exchange(stream, limits, HttpRequest{});
  HttpResponse response;
  response.status = 503;
  response.headers["Retry-After"] = "1";
  response.body = std::string(kTurnedAway);
  try {
    co_await exchange.respond(std::move(response));
  } catch (const PeerGone&) {
  }
  handlers.log(exchange.record(0));
  co_await linger(stream);
  --turned_away;
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
    } else if (connections < limits.connections) {
      asio::co_spawn(context, serve(std::move(socket)), asio::detached);
    } else if (turned_away < kMostTurnedAway) {
      asio::co_spawn(context, turn_away(std::move(socket)), asio::detached);
    }
  }
}

HttpServer::HttpServer(asio::io_context& context, const HttpLimits& limits, HttpHandlers handlers)
    : implementation_(std::make_shared<Implementation>(context, limits, std::move(handlers))) {}

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
