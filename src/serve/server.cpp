#include "serve/server.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <iostream>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <malloc.h>

#include "serve/api_error.h"
#include "serve/completion_json.h"
#include "serve/server_implementation.h"

namespace adze::serve {
namespace {

namespace asio = boost::asio;
using asio::awaitable;

constexpr std::chrono::seconds kTrimPause(5);

// For clients whose answers end before they are complete.
std::exception_ptr shutting_down() {
  return std::make_exception_ptr(
      ApiError(503, "server_error", "[server] is shutting down", "", "draining"));
}
constexpr std::chrono::seconds kFarewell(2);

}  // namespace

Server::Implementation::Implementation(const ServerOptions& o,
                                       std::vector<ModelEntry> models,
                                       std::vector<AdapterEntry> adapters,
                                       const ModelHostOptions& hosting)
    : options(o),
      access(o.host, o.keys, o.cors_origin),
      host(std::move(models), std::move(adapters), hosting),
      sessions(o.sessions),
      http(io,
           o.limits,
           {.begin = [this](Exchange& exchange) { return begin(exchange); },
            .answer = [this](Exchange& exchange) { return handle(exchange); },
            .log = [this](const AccessRecord& record) { log(record); }}) {}

const std::vector<Server::Implementation::Route>& Server::Implementation::routes() {
  using I = Implementation;
  static const std::vector<Route> kRoutes = {
      {"GET", "/health", true, &I::health},
      {"GET", "/metrics", false, &I::show_metrics},
      {"GET", "/v1/models", false, &I::list_models},
      {"GET", "/v1/models/**", false, &I::show_model},
      {"GET", "/v1/cache-options", false, &I::cache_options},
      {"POST", "/v1/chat/completions", false, &I::chat},
      {"POST", "/v1/completions", false, &I::complete},
      {"POST", "/v1/embeddings", false, &I::embed},
      {"GET", "/v1/sessions", false, &I::list_sessions},
      {"GET", "/v1/sessions/*", false, &I::show_session},
      {"DELETE", "/v1/sessions/*", false, &I::delete_session},
      {"GET", "/v1/sessions/*/export", false, &I::export_session},
      {"POST", "/v1/sessions/*/import", false, &I::import_session},
      {"POST", "/tokenize", false, &I::tokenize},
      {"POST", "/detokenize", false, &I::detokenize},
      {"GET", "/openapi.json", false, &I::web, true},
      {"GET", "/lab", false, &I::lab},
      {"GET", "/runs", false, &I::training_runs, true},
      {"GET", "/", false, &I::web, true},
      {"GET", "/web/**", false, &I::web, true}};
  return kRoutes;
}

bool Server::Implementation::Route::matches(std::string_view asked) const {
  std::string_view pattern = path;
  for (size_t star = pattern.find('*'); star != pattern.npos; star = pattern.find('*')) {
    if (asked.substr(0, star) != pattern.substr(0, star) || asked.size() == star) {
      return false;
    }
    if (pattern.substr(star) == "**") {
      return true;
    }
    const size_t end = std::min(asked.find('/', star), asked.size());
    if (end == star) {
      return false;
    }
    asked.remove_prefix(end);
    pattern.remove_prefix(star + 1);
  }
  return asked == pattern;
}

std::string Server::Implementation::methods_of(std::string_view path) const {
  std::string methods;
  for (const Route& route : routes()) {
    if (route.matches(path)) {
      methods += (methods.empty() ? "" : ", ") + std::string(route.method);
    }
  }
  return methods;
}

const Server::Implementation::Route& Server::Implementation::route_of(Exchange& exchange) const {
  const HttpRequest& request = exchange.request();
  const std::string_view method =
      request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const Route& route : routes()) {
    if (route.matches(request.path) && route.method == method) {
      return route;
    }
  }
  const std::string allowed = methods_of(request.path);
  if (allowed.empty()) {
    throw ApiError(404,
                   "invalid_request_error",
                   fmt::format("[path] expected a known path, got {}; GET /openapi.json lists them",
                               request.path.substr(0, 200)),
                   "",
                   "not_found");
  }
  exchange.set_header("Allow", allowed == "GET" ? "GET, HEAD" : allowed);
  throw ApiError(405,
                 "invalid_request_error",
                 fmt::format("[method] expected {}, got {}", allowed, request.method));
}

// Before the body is read: whether there is any point in reading it, and how much of it.
int64_t Server::Implementation::begin(Exchange& exchange) const {
  const HttpRequest& request = exchange.request();
  access.add_headers(exchange);
  access.check_origin(request);
  if (access.is_preflight(request) && !methods_of(request.path).empty()) {
    return options.limits.body_bytes;
  }
  const auto open = [&](const Route& route) { return route.open && route.matches(request.path); };
  const bool needs_key = std::none_of(routes().begin(), routes().end(), open);
  if (needs_key) {
    access.tenant_of(request);
  }
  const Route& route = route_of(exchange);
  if (draining && !route.open) {
    std::rethrow_exception(shutting_down());
  }
  if (!request.query.empty() && !route.takes_query) {
    throw bad_request("",
                      fmt::format("[query] expected none, got {}; fields go into the body",
                                  request.query.substr(0, 80)),
                      "unknown_field");
  }
  return route.handler == &Implementation::import_session ? options.limits.bodies_bytes
                                                          : options.limits.body_bytes;
}

awaitable<void> Server::Implementation::handle(Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  if (access.is_preflight(request)) {
    HttpResponse response{.status = 204, .content_type = "text/plain", .body = "", .headers = {}};
    response.headers["Access-Control-Allow-Methods"] = methods_of(request.path);
    response.headers["Access-Control-Allow-Headers"] = Access::allowed_headers(request);
    response.headers["Vary"] = "Origin, Access-Control-Request-Headers";
    co_await exchange.respond(std::move(response));
    co_return;
  }
  const Route& route = route_of(exchange);
  std::string tenant;
  if (!route.open) {
    tenant = access.tenant_of(request);
  }
  co_await (this->*route.handler)(exchange, tenant);
}

void Server::Implementation::log(const AccessRecord& record) {
  std::string_view route = "other";
  for (const Route& entry : routes()) {
    if (entry.matches(record.path)) {
      route = entry.path;
    }
  }
  metrics.count_request(route, record.status, record.seconds);
  if (options.quiet) {
    return;
  }
  const std::time_t now = std::time(nullptr);
  if (options.json_log) {
    std::cerr << dump({{"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now))},
                       {"peer", record.peer},
                       {"method", record.method},
                       {"path", record.path.substr(0, 200)},
                       {"status", record.status},
                       {"bytes", record.bytes_sent},
                       {"seconds", record.seconds},
                       {"id", record.id},
                       {"note", record.note}}) +
                     "\n";
  } else {
    std::cerr << fmt::format("{:%H:%M:%S} {} {} {} {} bytes {:.3f} s{}{}\n",
                             fmt::localtime(now),
                             record.method,
                             dump(Json(record.path.substr(0, 200))),
                             record.status,
                             record.bytes_sent,
                             record.seconds,
                             record.note.empty() ? "" : " ",
                             record.note);
  }
}

Server::Server(const ServerOptions& options,
               std::vector<ModelEntry> models,
               std::vector<AdapterEntry> adapters,
               const ModelHostOptions& hosting)
    : implementation_(std::make_unique<Implementation>(
          options, std::move(models), std::move(adapters), hosting)) {}

// Threads end before what they use: models, then workers (which may be loading or embedding).
Server::~Server() {
  implementation_->host.stop(shutting_down());
  implementation_->loaders.join();
  implementation_->embedders.join();
  implementation_->preparers.join();
  implementation_->host.stop(shutting_down());  // what a worker had just loaded
}

std::vector<RouteInfo> Server::routes() {
  std::vector<RouteInfo> result;
  for (const Implementation::Route& route : Implementation::routes()) {
    result.push_back({std::string(route.method), std::string(route.path), route.open});
  }
  return result;
}

int Server::listen() {
  Implementation& self = *implementation_;
  self.port = self.http.listen(self.options.host, static_cast<int>(self.options.port));
  return self.port;
}

void Server::load_first() {
  implementation_->host.get("");
}

awaitable<void> Server::Implementation::drain(bool& all_ended) {
  co_await signals.async_wait(asio::use_awaitable);
  draining = true;
  http.stop_listening();
  http.close_idle();
  std::cerr << fmt::format("draining: {} requests are being answered\n", http.active_exchanges());
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(options.drain_seconds);
  // Whoever asks twice does not want to wait.
  bool asked_again = false;
  signals.async_wait([&asked_again](boost::system::error_code error, int) {
    asked_again = asked_again || !error;
  });
  asio::steady_timer timer(io);
  while (http.active_exchanges() > 0 && !asked_again &&
         std::chrono::steady_clock::now() < deadline) {
    timer.expires_after(std::chrono::milliseconds(20));
    co_await timer.async_wait(asio::use_awaitable);
  }
  all_ended = http.active_exchanges() == 0;
  if (!all_ended) {  // clients are told, not cut off
    host.stop(shutting_down());
    const auto end = std::chrono::steady_clock::now() + kFarewell;
    while (http.active_exchanges() > 0 && std::chrono::steady_clock::now() < end) {
      timer.expires_after(std::chrono::milliseconds(20));
      co_await timer.async_wait(asio::use_awaitable);
    }
  }
  io.stop();
}

bool Server::run() {
  Implementation& self = *implementation_;
  bool all_ended = true;
  // A burst of large tensors (logits of many rows, a long embedding) leaves holes all over the
  // heap, which the system gets back only when asked to take them.
  const auto trim = [&]() -> awaitable<void> {
    for (asio::steady_timer timer(self.io);;) {
      timer.expires_after(kTrimPause);
      co_await timer.async_wait(asio::use_awaitable);
      ::malloc_trim(0);
    }
  };
  asio::co_spawn(self.io, self.drain(all_ended), asio::detached);
  asio::co_spawn(self.io, trim(), asio::detached);
  self.io.run();
  return all_ended;
}

}  // namespace adze::serve
