#include "serve/server.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <functional>
#include <iostream>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "core/error.h"
#include "kv/cache_registry.h"
#include "model/model.h"
#include "serve/access.h"
#include "serve/api_error.h"
#include "serve/completion_api.h"
#include "serve/completion_json.h"
#include "serve/completion_request.h"
#include "serve/embedding_api.h"
#include "serve/metrics.h"
#include "serve/session_api.h"
#include "serve/web_files.h"

namespace adze::serve {
namespace {

namespace asio = boost::asio;
using asio::awaitable;

constexpr std::string_view kPageSecurity =
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'";

constexpr std::string_view kLabSecurity =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

// For clients whose answers end before they are complete.
std::exception_ptr shutting_down() {
  return std::make_exception_ptr(
      ApiError(503, "server_error", "[server] is shutting down", "", "draining"));
}
constexpr std::chrono::seconds kFarewell(2);
constexpr size_t kShortBody = 64 << 10;  // parsed in less than a millisecond

HttpResponse json_response(const Json& json, int status = 200) {
  return {.status = status, .content_type = "application/json", .body = dump(json), .headers = {}};
}

}  // namespace

struct Server::Implementation {
  ServerOptions options;
  asio::io_context io{1};
  Workers loaders{io, 2};    // loading and embedding: minutes
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
  asio::signal_set signals{io, SIGINT, SIGTERM};  // from now on, so that none is missed

  using RouteHandler = awaitable<void> (Implementation::*)(Exchange&, const std::string& tenant);
  struct Route {
    std::string_view method;
    std::string_view path;  // "*": any part, "**": all that follows
    bool open;              // needs no key
    RouteHandler handler;
  };

  Implementation(const ServerOptions& o,
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

  static const std::vector<Route>& routes() {
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
        {"GET", "/openapi.json", false, &I::web},
        {"GET", "/lab", false, &I::lab},
        {"GET", "/", false, &I::web},
        {"GET", "/web/**", false, &I::web}};
    return kRoutes;
  }

  static bool matches(const Route& route, std::string_view path) {
    std::string_view pattern = route.path;
    for (size_t star = pattern.find('*'); star != pattern.npos; star = pattern.find('*')) {
      if (path.substr(0, star) != pattern.substr(0, star) || path.size() == star) {
        return false;
      }
      if (pattern.substr(star) == "**") {
        return true;
      }
      const size_t end = std::min(path.find('/', star), path.size());
      if (end == star) {
        return false;
      }
      path.remove_prefix(end);
      pattern.remove_prefix(star + 1);
    }
    return path == pattern;
  }

  // Parses and checks a body: at once, or elsewhere if it is long.
  template <class Read>
  awaitable<std::invoke_result_t<Read, const Json&>> read(const std::string& body, Read checked) {
    const auto all = [&body, checked] { return checked(parse_body(body)); };
    if (body.size() < kShortBody) {
      co_return all();
    }
    co_return co_await preparers.run(all);
  }

  awaitable<NamedModel> model_of(const std::string& name) {
    if (auto loaded = host.get_loaded(name)) {
      co_return *loaded;
    }
    const std::function<NamedModel()> get = [this, name] {
      try {
        return host.get(name);
      } catch (const core::Error& error) {
        const std::string shown = name.empty() ? host.list().front().name : name;
        std::cerr << fmt::format("fault: [model] {}: {}\n", shown, error.what());
        throw ApiError(500,
                       "server_error",
                       fmt::format("[model] {} cannot be read; the server's log says why", shown),
                       "model",
                       "model_unreadable");
      }
    };
    co_return co_await loaders.run(get);
  }

  // The route of a request. Throws ApiError: 404, 405.
  const Route& route_of(Exchange& exchange) const;
  std::string methods_of(std::string_view path) const;  // "" for an unknown path
  int64_t begin(Exchange& exchange) const;
  awaitable<void> handle(Exchange& exchange);
  void log(const AccessRecord& record);

  awaitable<void> health(Exchange& exchange, const std::string& tenant);
  awaitable<void> show_metrics(Exchange& exchange, const std::string& tenant);
  awaitable<void> list_models(Exchange& exchange, const std::string& tenant);
  awaitable<void> show_model(Exchange& exchange, const std::string& tenant);
  awaitable<void> cache_options(Exchange& exchange, const std::string& tenant);
  awaitable<void> chat(Exchange& exchange, const std::string& tenant);
  awaitable<void> complete(Exchange& exchange, const std::string& tenant);
  awaitable<void> run_completion(Exchange& exchange,
                                 const std::string& tenant,
                                 CompletionRequest request);
  awaitable<void> embed(Exchange& exchange, const std::string& tenant);
  awaitable<void> list_sessions(Exchange& exchange, const std::string& tenant);
  awaitable<void> show_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> delete_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> export_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> import_session(Exchange& exchange, const std::string& tenant);
  awaitable<void> tokenize(Exchange& exchange, const std::string& tenant);
  awaitable<void> detokenize(Exchange& exchange, const std::string& tenant);
  awaitable<void> lab(Exchange& exchange, const std::string& tenant);
  awaitable<void> web(Exchange& exchange, const std::string& tenant);

  Json model_json(const ModelListing& listing) const;
};

std::string Server::Implementation::methods_of(std::string_view path) const {
  std::string methods;
  for (const Route& route : routes()) {
    if (matches(route, path)) {
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
    if (matches(route, request.path) && route.method == method) {
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
  const auto open = [&](const Route& route) { return route.open && matches(route, request.path); };
  const bool needs_key = std::none_of(routes().begin(), routes().end(), open);
  if (needs_key) {
    access.tenant_of(request);
  }
  const Route& route = route_of(exchange);
  if (draining && !route.open) {
    std::rethrow_exception(shutting_down());
  }
  if (!request.query.empty() && route.handler != &Implementation::web) {
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
    response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Request-Id";
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
    if (matches(entry, record.path)) {
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

awaitable<void> Server::Implementation::health(Exchange& exchange, const std::string&) {
  Json body;
  body["status"] = draining ? "draining" : "ok";
  HttpResponse response = json_response(body, draining ? 503 : 200);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::show_metrics(Exchange& exchange, const std::string&) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  sessions.expire();
  metrics.set_sessions(sessions.count(), sessions.bytes());
  response.body = metrics.text(host.list(), http.open_connections(), http.active_exchanges());
  co_await exchange.respond(std::move(response));
}

Json Server::Implementation::model_json(const ModelListing& listing) const {
  Json figures = {{"loaded", listing.model != nullptr},
                  {"parent", listing.parent ? Json(*listing.parent) : Json()},
                  {"kind", nullptr},
                  {"context", nullptr},
                  {"layers", nullptr}};
  if (listing.facts) {
    figures["kind"] = listing.facts->generates ? "generator" : "encoder";
    figures["context"] = listing.model ? listing.model->context() : listing.facts->context;
    figures["layers"] = listing.facts->layers;
  }
  return {{"id", listing.name},
          {"object", "model"},
          {"created", started},
          {"owned_by", "adze"},
          {"adze", figures}};
}

awaitable<void> Server::Implementation::list_models(Exchange& exchange, const std::string&) {
  Json data = Json::array();
  for (const ModelListing& listing : host.list()) {
    data.push_back(model_json(listing));
  }
  const Json answer = {{"object", "list"}, {"data", data}};
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::show_model(Exchange& exchange, const std::string&) {
  const std::string name = exchange.request().path.substr(std::string_view("/v1/models/").size());
  for (const ModelListing& listing : host.list()) {
    if (listing.name == name) {
      HttpResponse response = json_response(model_json(listing));
      co_await exchange.respond(std::move(response));
      co_return;
    }
  }
  throw ApiError(
      404,
      "invalid_request_error",
      fmt::format("[model] expected a name that GET /v1/models lists, got {}", name.substr(0, 200)),
      "model",
      "model_not_found");
}

awaitable<void> Server::Implementation::cache_options(Exchange& exchange, const std::string&) {
  Json answer = kv::choices_json();  // as `adze kv --json`
  answer["lab"] = options.lab_page ? Json("/lab") : Json();
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::chat(Exchange& exchange, const std::string& tenant) {
  CompletionRequest request = co_await read(exchange.request().body, read_chat_request);
  co_await run_completion(exchange, tenant, std::move(request));
}

awaitable<void> Server::Implementation::complete(Exchange& exchange, const std::string& tenant) {
  CompletionRequest request = co_await read(exchange.request().body, read_completion_request);
  co_await run_completion(exchange, tenant, std::move(request));
}

awaitable<void> Server::Implementation::run_completion(Exchange& exchange,
                                                       const std::string& tenant,
                                                       CompletionRequest request) {
  sessions.expire();  // their disk is for others
  std::optional<Sessions::Lease> lease;
  if (!request.session.empty()) {
    lease.emplace(sessions.lease(tenant, request.session));
    keep_choices(lease->session(), request);
  }
  const NamedModel named = co_await model_of(request.model);
  if (request.model.empty()) {
    request.model = host.list().front().name;
  }
  const CompletionContext context{
      io, preparers, metrics, options.answers, tenant, lease ? &*lease : nullptr};
  co_await answer_completion(context, exchange, request, named);
}

awaitable<void> Server::Implementation::embed(Exchange& exchange, const std::string&) {
  EmbeddingRequest request = co_await read(exchange.request().body, read_embedding_request);
  const NamedModel named = co_await model_of(request.model);
  if (request.model.empty()) {
    request.model = host.list().front().name;
  }
  const EmbeddingContext context{
      io, loaders, preparers, options.answers, embedding, host.options().scheduling.max_queue};
  co_await answer_embedding(context, exchange, request, named);
}

awaitable<void> Server::Implementation::list_sessions(Exchange& exchange,
                                                      const std::string& tenant) {
  sessions.expire();
  Json data = Json::array();
  for (const Session* session : sessions.list(tenant)) {
    data.push_back(session_json(*session, sessions.limits()));
  }
  const Json answer = {{"object", "list"}, {"data", data}};
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::show_session(Exchange& exchange,
                                                     const std::string& tenant) {
  sessions.expire();
  const Session& session = sessions.find(tenant, session_of(exchange.request().path));
  HttpResponse response = json_response(session_json(session, sessions.limits()));
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::delete_session(Exchange& exchange,
                                                       const std::string& tenant) {
  const std::string id = session_of(exchange.request().path);
  sessions.erase(tenant, id);
  const Json answer = {{"id", id}, {"object", "session"}, {"deleted", true}};
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::export_session(Exchange& exchange,
                                                       const std::string& tenant) {
  sessions.expire();
  const Session& session = sessions.find(tenant, session_of(exchange.request().path));
  // As of now, whatever a request makes of it meanwhile.
  const std::function<std::string()> write = [binding = session.binding, state = session.state] {
    return write_session(binding, state);
  };
  HttpResponse response;
  response.content_type = "application/octet-stream";
  response.body = co_await preparers.run(write);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::import_session(Exchange& exchange,
                                                       const std::string& tenant) {
  const std::string id = session_of(exchange.request().path);
  check_session_id(id);
  Sessions::Lease lease = sessions.lease(tenant, id);
  if (lease.session().answered()) {
    throw ApiError(409,
                   "invalid_request_error",
                   fmt::format("[session] expected a new one, got {}, which is there; delete it "
                               "first, or choose another",
                               id),
                   "session",
                   "session_conflict");
  }
  const std::function<SessionFile()> read = [&exchange] {
    return read_session(exchange.request().body);
  };
  SessionFile file = co_await preparers.run(read);
  const NamedModel named = co_await model_of(file.binding.model);
  const std::function<SessionState()> check = [&] {
    return check_session(std::move(file), named, host.options().scheduling.swap.get());
  };
  SessionState state = co_await preparers.run(check);
  lease.session().binding = file.binding;
  lease.finish(std::move(state));
  HttpResponse response = json_response(session_json(sessions.find(tenant, id), sessions.limits()));
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::tokenize(Exchange& exchange, const std::string&) {
  const Json body = parse_body(exchange.request().body);
  RequestFields fields(body);
  const std::string name = fields.text("model").value_or("");
  const auto content = fields.text("content");
  const auto prompt = fields.text("prompt");
  const bool add_special = fields.boolean("add_special").value_or(false);
  const bool with_pieces = fields.boolean("with_pieces").value_or(false);
  fields.finish();
  if (content.has_value() == prompt.has_value()) {
    throw bad_request("content", "[content] expected content or prompt, one of them");
  }
  const NamedModel named = co_await model_of(name);
  const infer::LoadedModel& loaded = named.model->loaded();
  const std::function<std::vector<int32_t>()> encode = [&] {
    auto encoded =
        loaded.tokenizer.encode(content ? *content : *prompt, text::SpecialTokens::kParse);
    if (add_special) {
      infer::add_begin_of_text(loaded.tokenizer, encoded);
    }
    return encoded;
  };
  const std::vector<int32_t> tokens = co_await preparers.run(encode);
  Json list = Json::array();
  for (const int32_t token : tokens) {
    if (with_pieces) {
      list.push_back({{"id", token}, {"piece", token_name(loaded.tokenizer, token)}});
    } else {
      list.push_back(token);
    }
  }
  const Json answer = {{"tokens", list},
                       {"count", tokens.size()},
                       {"max_model_len", loaded.model->spec.context_length}};
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::detokenize(Exchange& exchange, const std::string&) {
  const Json body = parse_body(exchange.request().body);
  RequestFields fields(body);
  const std::string name = fields.text("model").value_or("");
  const Json* list = fields.any("tokens");
  fields.finish();
  if (list == nullptr || !list->is_array()) {
    throw bad_request("tokens", "[tokens] expected a list of ids");
  }
  const NamedModel named = co_await model_of(name);
  const text::Tokenizer& tokenizer = named.model->loaded().tokenizer;
  std::vector<int32_t> tokens;
  for (const Json& id : *list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() >= tokenizer.vocab_size()) {
      throw bad_request(
          "tokens", fmt::format("[tokens] expected ids from 0 to {}", tokenizer.vocab_size() - 1));
    }
    tokens.push_back(id.get<int32_t>());
  }
  const std::string text = tokenizer.decode(tokens);
  const Json answer = {{"content", text}, {"prompt", text}};
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::lab(Exchange& exchange, const std::string&) {
  if (!options.lab_page) {
    throw ApiError(404,
                   "invalid_request_error",
                   "[path] expected --cache-lab FILE when the server was started, got none",
                   "",
                   "not_found");
  }
  HttpResponse response{.status = 200,
                        .content_type = "text/html; charset=utf-8",
                        .body = *options.lab_page,
                        .headers = {{"Cache-Control", "no-cache"},
                                    {"Content-Security-Policy", std::string(kLabSecurity)},
                                    {"X-Content-Type-Options", "nosniff"},
                                    {"Referrer-Policy", "no-referrer"}}};
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::web(Exchange& exchange, const std::string&) {
  const HttpRequest& request = exchange.request();
  const WebFile* file = find_web_file(request.path);
  if (file == nullptr) {
    throw ApiError(
        404, "invalid_request_error", "[path] expected a file of the page", "", "not_found");
  }
  HttpResponse response{.status = 200,
                        .content_type = std::string(file->content_type),
                        .body = std::string(file->body),
                        .headers = {{"ETag", std::string(file->etag)},
                                    {"Cache-Control", "no-cache"},
                                    {"Content-Security-Policy", std::string(kPageSecurity)},
                                    {"X-Content-Type-Options", "nosniff"},
                                    {"Referrer-Policy", "no-referrer"}}};
  if (request.header("if-none-match") == file->etag) {
    response.status = 304;
    response.body.clear();
  }
  co_await exchange.respond(std::move(response));
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

bool Server::run() {
  Implementation& self = *implementation_;
  bool all_ended = true;
  const auto drain = [&]() -> awaitable<void> {
    co_await self.signals.async_wait(asio::use_awaitable);
    self.draining = true;
    self.http.stop_listening();
    self.http.close_idle();
    std::cerr << fmt::format("draining: {} requests are being answered\n",
                             self.http.active_exchanges());
    const auto deadline = std::chrono::steady_clock::now() +
                          std::chrono::duration<double>(self.options.drain_seconds);
    // Whoever asks twice does not want to wait.
    bool asked_again = false;
    self.signals.async_wait([&asked_again](boost::system::error_code error, int) {
      asked_again = asked_again || !error;
    });
    asio::steady_timer timer(self.io);
    while (self.http.active_exchanges() > 0 && !asked_again &&
           std::chrono::steady_clock::now() < deadline) {
      timer.expires_after(std::chrono::milliseconds(20));
      co_await timer.async_wait(asio::use_awaitable);
    }
    all_ended = self.http.active_exchanges() == 0;
    if (!all_ended) {  // clients are told, not cut off
      self.host.stop(shutting_down());
      const auto end = std::chrono::steady_clock::now() + kFarewell;
      while (self.http.active_exchanges() > 0 && std::chrono::steady_clock::now() < end) {
        timer.expires_after(std::chrono::milliseconds(20));
        co_await timer.async_wait(asio::use_awaitable);
      }
    }
    self.io.stop();
  };
  asio::co_spawn(self.io, drain(), asio::detached);
  self.io.run();
  return all_ended;
}

}  // namespace adze::serve
