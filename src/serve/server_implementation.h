#pragma once
// What the server holds together, and its routes. Internal to the server.

#include <csignal>
#include <ctime>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "serve/access.h"
#include "serve/completion_request.h"
#include "serve/metrics.h"
#include "serve/request_json.h"
#include "serve/server.h"
#include "serve/workers.h"

namespace adze::serve {

struct Server::Implementation {
  template <class Result>
  using awaitable = boost::asio::awaitable<Result>;

  ServerOptions options;
  boost::asio::io_context io{1};
  Workers loaders{io, 1};    // one model at a time: minutes
  Workers embedders{io, 2};  // minutes, too
  Workers preparers{io, 2};  // reading and tokenising: up to seconds
  Access access;
  ModelHost host;
  Metrics metrics;
  Sessions sessions;
  HttpServer http;
  std::time_t started = std::time(nullptr);
  int port = 0;
  bool draining = false;
  int64_t embedding = 0;  // requests for embeddings, those that wait for a worker included
  // From now on, so that none is missed.
  boost::asio::signal_set signals{io, SIGINT, SIGTERM};

  using RouteHandler = awaitable<void> (Implementation::*)(Exchange&, const std::string& tenant);
  struct Route {
    std::string_view method;
    std::string_view path;  // "*": any part, "**": all that follows
    bool open;              // needs no key
    RouteHandler handler;
    bool takes_query = false;

    bool matches(std::string_view asked) const;
  };

  Implementation(const ServerOptions& o,
                 std::vector<ModelEntry> models,
                 std::vector<AdapterEntry> adapters,
                 const ModelHostOptions& hosting);

  static const std::vector<Route>& routes();
  // The route of a request. Throws ApiError: 404, 405.
  const Route& route_of(Exchange& exchange) const;
  std::string methods_of(std::string_view path) const;  // "" for an unknown path
  int64_t begin(Exchange& exchange) const;
  awaitable<void> handle(Exchange& exchange);
  void log(const AccessRecord& record);
  awaitable<void> drain(bool& all_ended);

  awaitable<void> health(Exchange& exchange, const std::string& tenant);
  awaitable<void> show_metrics(Exchange& exchange, const std::string& tenant);
  awaitable<void> list_models(Exchange& exchange, const std::string& tenant);
  awaitable<void> show_model(Exchange& exchange, const std::string& tenant);
  awaitable<void> cache_options(Exchange& exchange, const std::string& tenant);
  awaitable<void> chat(Exchange& exchange, const std::string& tenant);
  awaitable<void> complete(Exchange& exchange, const std::string& tenant);
  awaitable<void> run_completion(Exchange& exchange,
                                 const std::string& tenant,
                                 CompletionRequest request,
                                 infer::Clock::time_point since);
  awaitable<void> embed(Exchange& exchange, const std::string& tenant);
  awaitable<void> list_sessions(Exchange& exchange, const std::string& tenant);
  awaitable<void> show_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> delete_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> export_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> import_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> tokenize(Exchange& exchange, const std::string& tenant);
  awaitable<void> detokenize(Exchange& exchange, const std::string& tenant);
  awaitable<void> lab(Exchange& exchange, const std::string& tenant);
  awaitable<void> training_runs(Exchange& exchange, const std::string& tenant);
  awaitable<void> web(Exchange& exchange, const std::string& tenant);

  awaitable<NamedModel> model_of(const std::string& name);
  Json model_json(const ModelListing& listing) const;
  // Parses and checks a body: at once, or elsewhere if it is long.
  template <class Read>
  awaitable<std::invoke_result_t<Read, const Json&>> read(const std::string& body, Read checked) {
    constexpr size_t kShortBody = 64 << 10;  // parsed in less than a millisecond
    const auto all = [&body, checked] { return checked(parse_body(body)); };
    if (body.size() < kShortBody) {
      co_return all();
    }
    co_return co_await preparers.run(all);
  }
};

}  // namespace adze::serve
