#pragma once
// HTTP/1.1 over Boost.Beast on one thread: limits, timeouts, keep-alive, event streams. Knows
// nothing of models; handlers are coroutines on that thread.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>

#include "serve/api_error.h"

namespace adze::serve {

struct HttpLimits {
  int64_t body_bytes = 16 << 20;
  int64_t bodies_bytes = 256 << 20;  // of all requests at once; more get 503
  int64_t header_bytes = 16 << 10;
  int64_t connections = 4096;              // more get 503
  std::chrono::seconds read_timeout{30};   // for a request's header, then for its body
  std::chrono::seconds write_timeout{60};  // without the peer taking a byte
  std::chrono::seconds idle_timeout{75};   // between requests of a connection
};

struct HttpRequest {
  std::string method;
  std::string path;   // without the query
  std::string query;  // without the ?
  std::string body;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string peer;

  std::string_view header(const std::string& lower_name) const {
    const auto found = headers.find(lower_name);
    return found == headers.end() ? std::string_view() : std::string_view(found->second);
  }
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::map<std::string, std::string> headers;
};

// A condition that coroutines of the server's thread wait for.
class Signal {
 public:
  explicit Signal(boost::asio::io_context& context);
  ~Signal();
  void notify();                        // the server's thread
  boost::asio::awaitable<void> wait();  // until the next notify(); spurious wake-ups happen

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// The peer cannot hear an answer any more.
class PeerGone : public std::runtime_error {
 public:
  PeerGone() : std::runtime_error("the peer has gone") {}
};

// One request being answered: one response, or an event stream. What waits throws PeerGone.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  // Of whatever is answered.
  virtual void set_header(const std::string& name, const std::string& value) = 0;
  virtual boost::asio::awaitable<void> respond(HttpResponse response) = 0;
  // Starts a response of server-sent events.
  virtual boost::asio::awaitable<void> begin_events() = 0;
  // Waits until the peer has taken it.
  virtual boost::asio::awaitable<void> send_event(std::string data) = 0;
  virtual boost::asio::awaitable<void> end_events() = 0;
  // From now on `signal` is notified when the peer goes away, or will send nothing more: who half
  // closes a connection cannot be told from who has left.
  virtual void watch_peer(std::shared_ptr<Signal> signal) = 0;
  virtual bool peer_gone() const = 0;
  // For the log: what ended an event stream that had begun well.
  virtual void note(const ApiError& failure) = 0;
};

struct AccessRecord {
  std::string id;  // of the request, as its answer's X-Request-Id
  std::string method;
  std::string path;
  std::string peer;
  int status;  // 499: the peer left before it had the answer
  int64_t bytes_sent;
  double seconds;
  std::string note;
};

struct HttpHandlers {
  // With the header alone: how many bytes its body may have, at most HttpLimits::bodies_bytes. Sets
  // headers of the answer; throws ApiError to refuse the body.
  std::function<int64_t(Exchange&)> begin;
  std::function<boost::asio::awaitable<void>(Exchange&)> answer;
  std::function<void(const AccessRecord&)> log;
};

class HttpServer {
 public:
  HttpServer(boost::asio::io_context& context, const HttpLimits& limits, HttpHandlers handlers);
  ~HttpServer();

  // Binds and listens; port 0 takes a free one. Returns the port. Throws core::Error.
  int listen(const std::string& host, int port);
  void stop_listening();
  void close_idle();  // connections that are between requests
  int64_t open_connections() const;
  int64_t active_exchanges() const;  // whose answer is not complete

 private:
  struct Implementation;
  std::shared_ptr<Implementation> implementation_;
};

}  // namespace adze::serve
