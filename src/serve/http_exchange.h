#pragma once
// An Exchange over a Beast stream.

#include <map>
#include <memory>
#include <string>
#include <utility>

#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/tcp_stream.hpp>

#include "serve/http_server.h"

namespace adze::serve {

class HttpExchange : public Exchange {
 public:
  HttpExchange(boost::beast::tcp_stream& stream, const HttpLimits& limits, HttpRequest request);
  ~HttpExchange() override;

  const HttpRequest& request() const override { return request_; }
  void set_header(const std::string& name, const std::string& value) override {
    headers_[name] = value;
  }
  boost::asio::awaitable<void> respond(HttpResponse response) override;
  boost::asio::awaitable<void> begin_events() override;
  boost::asio::awaitable<void> send_event(std::string data) override;
  boost::asio::awaitable<void> end_events() override;
  void watch_peer(std::shared_ptr<Signal> signal) override;
  bool peer_gone() const override { return gone_ || (watch_ && watch_->gone); }
  void note(const ApiError& failure) override { note_ = failure.what(); }

  boost::asio::awaitable<void> refuse(const ApiError& failure);

  void set_keep_alive(bool keep) { keep_alive_ = keep; }
  void set_old_client() { old_client_ = true; }  // HTTP/1.0, which knows no chunks
  void set_body(std::string body) { request_.body = std::move(body); }
  bool started() const { return started_; }
  bool reusable() const { return complete_ && keep_alive_ && !peer_gone(); }
  // Ends the watching; the socket has no other operation then.
  void end_watch();
  AccessRecord record(double seconds) const;

 private:
  struct Watch {
    explicit Watch(const boost::asio::any_io_executor& executor) : timer(executor) {}
    std::shared_ptr<Signal> signal;
    boost::asio::steady_timer timer;
    bool over = false;
    bool gone = false;
  };

  void watch(const std::shared_ptr<Watch>& watch);
  boost::asio::awaitable<void> write(std::string bytes);
  void count(boost::system::error_code error, size_t bytes);

  boost::beast::tcp_stream& stream_;
  const HttpLimits& limits_;
  HttpRequest request_;
  std::string id_;
  std::map<std::string, std::string> headers_;
  bool keep_alive_ = false;
  bool old_client_ = false;
  bool started_ = false;
  bool complete_ = false;
  bool gone_ = false;
  int status_ = 0;
  int64_t bytes_sent_ = 0;
  std::string note_;
  std::shared_ptr<Watch> watch_;
};

}  // namespace adze::serve
