#include "serve/server.h"

#include <chrono>
#include <csignal>
#include <ctime>
#include <functional>
#include <iostream>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/detail/base64.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "kv/cache_registry.h"
#include "model/model.h"
#include "serve/api_error.h"
#include "serve/completion_api.h"
#include "serve/completion_json.h"
#include "serve/completion_request.h"
#include "serve/embedding_work.h"
#include "serve/metrics.h"
#include "serve/web_files.h"

namespace adze::serve {
namespace {

namespace asio = boost::asio;
using asio::awaitable;

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest digest_of(std::string_view text) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

std::string hexadecimal(const Digest& digest, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) {
    text += fmt::format("{:02x}", digest[i]);
  }
  return text;
}

constexpr std::string_view kPageSecurity =
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'";

bool is_loopback(std::string_view host) {
  std::string name(host);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  if (name == "localhost") {
    return true;
  }
  if (name.starts_with('[') && name.ends_with(']')) {
    name = name.substr(1, name.size() - 2);
  }
  boost::system::error_code error;
  const auto address = asio::ip::make_address(name, error);
  return !error && address.is_loopback();
}

// "localhost:8080" -> "localhost", "[::1]:80" -> "[::1]"
std::string_view without_port(std::string_view host) {
  const size_t colon = host.rfind(':');
  const size_t bracket = host.rfind(']');
  if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) {
    return host;
  }
  return host.substr(0, colon);
}

// The key of "Bearer KEY", or the password of "Basic ...", which is what browsers can send.
std::string key_of(std::string_view authorization) {
  if (authorization.starts_with("Bearer ")) {
    return std::string(authorization.substr(7));
  }
  if (authorization.starts_with("Basic ")) {
    const std::string_view encoded = authorization.substr(6);
    std::string pair(boost::beast::detail::base64::decoded_size(encoded.size()), '\0');
    pair.resize(
        boost::beast::detail::base64::decode(pair.data(), encoded.data(), encoded.size()).first);
    const size_t colon = pair.find(':');
    return colon == std::string::npos ? "" : pair.substr(colon + 1);
  }
  return "";
}

std::string base64(std::span<const std::byte> bytes) {
  std::string text(boost::beast::detail::base64::encoded_size(bytes.size()), '\0');
  text.resize(boost::beast::detail::base64::encode(text.data(), bytes.data(), bytes.size()));
  return text;
}

// For clients whose answers end before they are complete.
std::exception_ptr shutting_down() {
  return std::make_exception_ptr(
      ApiError(503, "server_error", "[server] is shutting down", "", "draining"));
}
constexpr std::chrono::seconds kFarewell(2);

HttpResponse json_response(const Json& json, int status = 200) {
  return {.status = status, .content_type = "application/json", .body = dump(json), .headers = {}};
}

}  // namespace

struct Server::Implementation {
  ServerOptions options;
  asio::io_context io{1};
  asio::thread_pool workers{2};  // loading and embedding: what would hold up the network
  std::vector<Digest> keys;
  ModelHost host;
  Metrics metrics;
  HttpServer http;
  std::time_t started = std::time(nullptr);
  int port = 0;
  bool draining = false;
  int64_t embedding = 0;  // requests for embeddings, those that wait for a worker included
  asio::signal_set signals{io, SIGINT, SIGTERM};  // from now on, so that none is missed

  using RouteHandler = awaitable<void> (Implementation::*)(Exchange&, const std::string& tenant);
  struct Route {
    std::string_view method;
    std::string_view path;  // a last part of "*" stands for anything
    bool open;              // needs no key
    RouteHandler handler;
  };

  Implementation(const ServerOptions& o,
                 std::vector<ModelEntry> models,
                 std::vector<AdapterEntry> adapters,
                 const ModelHostOptions& hosting)
      : options(o),
        host(std::move(models), std::move(adapters), hosting),
        http(
            io,
            o.limits,
            [this](Exchange& exchange) { return handle(exchange); },
            [this](const AccessRecord& record) { log(record); }) {
    for (const std::string& key : options.keys) {
      keys.push_back(digest_of(key));
    }
  }

  static const std::vector<Route>& routes() {
    using I = Implementation;
    static const std::vector<Route> kRoutes = {
        {"GET", "/health", true, &I::health},
        {"GET", "/metrics", false, &I::show_metrics},
        {"GET", "/v1/models", false, &I::list_models},
        {"GET", "/v1/models/*", false, &I::show_model},
        {"GET", "/v1/cache-options", false, &I::cache_options},
        {"POST", "/v1/chat/completions", false, &I::chat},
        {"POST", "/v1/completions", false, &I::complete},
        {"POST", "/v1/embeddings", false, &I::embed},
        {"POST", "/tokenize", false, &I::tokenize},
        {"POST", "/detokenize", false, &I::detokenize},
        {"GET", "/openapi.json", false, &I::web},
        {"GET", "/", false, &I::web},
        {"GET", "/web/*", false, &I::web}};
    return kRoutes;
  }

  static bool matches(const Route& route, std::string_view path) {
    if (route.path.ends_with('*')) {
      const std::string_view front = route.path.substr(0, route.path.size() - 1);
      return path.starts_with(front) && path.size() > front.size();
    }
    return path == route.path;
  }

  // Runs on a worker; the coroutine goes on on the server's thread.
  template <class Function>
  awaitable<std::invoke_result_t<Function>> elsewhere(Function function) {
    struct State {
      std::optional<std::invoke_result_t<Function>> result;
      std::exception_ptr failure;
      std::shared_ptr<Signal> signal;
      bool done = false;
    };
    const auto state = std::make_shared<State>();
    state->signal = std::make_shared<Signal>(io);
    asio::post(workers, [this, state, function = std::move(function)] {
      try {
        state->result.emplace(function());
      } catch (...) {
        state->failure = std::current_exception();
      }
      asio::post(io, [state] {
        state->done = true;
        state->signal->notify();
      });
    });
    while (!state->done) {
      co_await state->signal->wait();
    }
    if (state->failure) {
      std::rethrow_exception(state->failure);
    }
    co_return std::move(*state->result);
  }

  awaitable<NamedModel> model_of(const std::string& name) {
    if (auto loaded = host.get_loaded(name)) {
      co_return *loaded;
    }
    const std::function<NamedModel()> get = [this, name] { return host.get(name); };
    co_return co_await elsewhere(get);
  }

  awaitable<void> handle(Exchange& exchange);
  std::string authorise(const HttpRequest& request, bool open) const;
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
  awaitable<void> finish(Exchange& exchange, std::shared_ptr<EmbeddingWork> work);
  awaitable<void> tokenize(Exchange& exchange, const std::string& tenant);
  awaitable<void> detokenize(Exchange& exchange, const std::string& tenant);
  awaitable<void> web(Exchange& exchange, const std::string& tenant);

  Json model_json(const ModelListing& listing) const;
};

// The tenant: a name of the key that is safe to store. Throws ApiError.
std::string Server::Implementation::authorise(const HttpRequest& request, bool open) const {
  // A page of another origin must not reach a server of this machine through a name of its own.
  const std::string_view host_name = without_port(request.header("host"));
  if (is_loopback(options.host) && !is_loopback(host_name)) {
    throw ApiError(403,
                   "permission_error",
                   fmt::format("[Host] expected localhost or a loopback address, got {}",
                               std::string(host_name.substr(0, 100))),
                   "Host");
  }
  // Nor may it use the credentials that a browser adds by itself.
  const std::string_view site = request.header("sec-fetch-site");
  if (request.method == "POST" && (site == "cross-site" || site == "same-site") &&
      request.header("origin") != options.cors_origin.value_or("-")) {
    throw ApiError(403,
                   "permission_error",
                   "[Origin] expected this server's own pages, or those of --cors-origin",
                   "Origin");
  }
  if (keys.empty() || open) {
    return "";
  }
  const std::string given = key_of(request.header("authorization"));
  const Digest digest = digest_of(given);
  bool known = false;
  for (const Digest& key : keys) {  // all of them, whichever fits
    known |= CRYPTO_memcmp(key.data(), digest.data(), digest.size()) == 0;
  }
  if (!known || given.empty()) {
    throw ApiError(401,
                   "authentication_error",
                   "[Authorization] expected Bearer and a key of this server",
                   "",
                   "invalid_api_key");
  }
  return hexadecimal(digest, digest.size());
}

awaitable<void> Server::Implementation::handle(Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  const Route* found = nullptr;
  std::string allowed;
  const std::string_view method =
      request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const Route& route : routes()) {
    if (matches(route, request.path)) {
      allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
      if (route.method == method) {
        found = &route;
      }
    }
  }
  const bool preflight =  // browsers ask without a key
      options.cors_origin && request.method == "OPTIONS" && !allowed.empty();
  if (options.cors_origin) {
    exchange.set_header("Access-Control-Allow-Origin", *options.cors_origin);
    exchange.set_header("Vary", "Origin");
  }
  if (!keys.empty() && request.header("authorization").empty()) {
    // Browsers ask their user for the page's key.
    const bool page = request.path == "/" || request.path.starts_with("/web/");
    exchange.set_header("WWW-Authenticate", page ? "Basic realm=\"adze\"" : "Bearer");
  }
  const std::string tenant = authorise(request, preflight || (found != nullptr && found->open));
  if (preflight) {
    HttpResponse response{.status = 204, .content_type = "text/plain", .body = "", .headers = {}};
    response.headers["Access-Control-Allow-Methods"] = allowed;
    response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type";
    co_await exchange.respond(std::move(response));
    co_return;
  }
  if (found == nullptr && allowed.empty()) {
    throw ApiError(404,
                   "invalid_request_error",
                   fmt::format("[path] expected a known path, got {}; GET /openapi.json lists them",
                               request.path.substr(0, 200)),
                   "",
                   "not_found");
  }
  if (found == nullptr) {
    exchange.set_header("Allow", allowed == "GET" ? "GET, HEAD" : allowed);
    throw ApiError(405,
                   "invalid_request_error",
                   fmt::format("[method] expected {}, got {}", allowed, request.method));
  }
  if (draining && !found->open) {
    std::rethrow_exception(shutting_down());
  }
  co_await (this->*found->handler)(exchange, tenant);
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
                       {"seconds", record.seconds}}) +
                     "\n";
  } else {
    std::cerr << fmt::format("{:%H:%M:%S} {} {} {} {} bytes {:.3f} s\n",
                             fmt::localtime(now),
                             record.method,
                             dump(Json(record.path.substr(0, 200))),
                             record.status,
                             record.bytes_sent,
                             record.seconds);
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
  response.body = metrics.text(host.list(), http.open_connections(), http.active_exchanges());
  co_await exchange.respond(std::move(response));
}

Json Server::Implementation::model_json(const ModelListing& listing) const {
  Json figures = {{"loaded", listing.model != nullptr},
                  {"parent", listing.parent ? Json(*listing.parent) : Json()}};
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
  const auto list = [](const auto& entries) {
    Json result = Json::array();
    for (const auto& entry : entries) {
      Json choices = Json::array();
      for (const auto& [name, value] : entry.defaults.items()) {
        choices.push_back(
            {{"name", name}, {"default", Json(value)}, {"summary", entry.help.at(name)}});
      }
      result.push_back({{"name", entry.name}, {"summary", entry.summary}, {"options", choices}});
    }
    return result;
  };
  const Json answer = {{"stores", list(kv::store_entries())},
                       {"policies", list(kv::policy_entries())}};
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::chat(Exchange& exchange, const std::string& tenant) {
  co_await run_completion(exchange, tenant, read_chat_request(parse_body(exchange.request().body)));
}

awaitable<void> Server::Implementation::complete(Exchange& exchange, const std::string& tenant) {
  co_await run_completion(
      exchange, tenant, read_completion_request(parse_body(exchange.request().body)));
}

awaitable<void> Server::Implementation::run_completion(Exchange& exchange,
                                                       const std::string& tenant,
                                                       CompletionRequest request) {
  const NamedModel named = co_await model_of(request.model);
  if (request.model.empty()) {
    request.model = host.list().front().name;
  }
  const CompletionContext context{io, metrics, tenant};
  co_await answer_completion(context, exchange, request, named);
}

// Until the work is done or its client has gone.
awaitable<void> Server::Implementation::finish(Exchange& exchange,
                                               std::shared_ptr<EmbeddingWork> work) {
  const int64_t most = host.options().scheduling.max_queue;
  if (embedding >= most) {
    throw infer::QueueFull(
        fmt::format("[queue] expected fewer than {} requests to wait, got {}; try again later",
                    most,
                    embedding));
  }
  ++embedding;
  auto signal = std::make_shared<Signal>(io);
  const auto done = std::make_shared<bool>(false);
  exchange.watch_peer(signal);
  asio::post(workers, [this, work, signal, done]() mutable {
    work->run();
    // What belongs to the server's thread ends there.
    asio::post(io, [this, signal = std::move(signal), done = std::move(done)] {
      --embedding;
      *done = true;
      signal->notify();
    });
  });
  while (!*done && !exchange.peer_gone()) {
    co_await signal->wait();
  }
  work->cancel();
}

awaitable<void> Server::Implementation::embed(Exchange& exchange, const std::string&) {
  const auto start = infer::Clock::now();
  const Json body = parse_body(exchange.request().body);
  RequestFields fields(body);
  std::string name = fields.text("model").value_or("");
  const std::string format = fields.choice("encoding_format", {"float", "base64"}, "float");
  const auto dimensions = fields.integer("dimensions", 1, 1 << 20);
  const auto timeout = fields.number("timeout_seconds", 0.001, 86400);
  fields.text("user");
  const Json* input = fields.any("input");
  if (input == nullptr) {
    throw bad_request("input", "[input] expected a string, token ids, or a list, got none");
  }
  const std::vector<Prompt> prompts = read_prompts(*input, "input", 2048);
  fields.finish();
  std::optional<infer::Clock::time_point> deadline;
  if (timeout) {
    deadline = start + std::chrono::duration_cast<infer::Clock::duration>(
                           std::chrono::duration<double>(*timeout));
  }
  const NamedModel named = co_await model_of(name);
  const infer::LoadedModel& loaded = named.model->loaded();
  const model::ModelSpec& spec = loaded.model->spec;
  if (dimensions && *dimensions != spec.hidden_size) {
    throw bad_request(
        "dimensions",
        fmt::format("[dimensions] expected {}, the model's, got {}", spec.hidden_size, *dimensions),
        "unsupported");
  }
  std::vector<std::vector<int32_t>> texts;
  const int64_t longest = longest_embedded_text(*named.model);
  int64_t tokens = 0;
  for (const Prompt& prompt : prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      texts.push_back(infer::embedding_tokens(loaded.tokenizer, *text));
    } else {
      texts.push_back(std::get<std::vector<int32_t>>(prompt));
    }
    const auto length = static_cast<int64_t>(texts.back().size());
    for (const int32_t token : texts.back()) {
      if (token >= spec.vocab_size) {
        throw bad_request(
            "input",
            fmt::format("[input] expected ids from 0 to {}, got {}", spec.vocab_size - 1, token));
      }
    }
    if (length == 0 || length > longest) {
      throw bad_request(
          "input",
          fmt::format("[input] expected 1 to {} tokens a text, got {}", longest, length),
          "context_length_exceeded");
    }
    tokens += length;
  }
  const auto work = std::make_shared<EmbeddingWork>(named, std::move(texts), deadline);
  co_await finish(exchange, work);
  if (exchange.peer_gone()) {
    co_return;
  }
  const auto& embeddings = work->embeddings();
  Json data = Json::array();
  for (size_t i = 0; i < embeddings.size(); ++i) {
    data.push_back({{"object", "embedding"},
                    {"index", i},
                    {"embedding",
                     format == "float" ? Json(embeddings[i])
                                       : Json(base64(std::as_bytes(std::span(embeddings[i]))))}});
  }
  const Json answer = {{"object", "list"},
                       {"data", data},
                       {"model", name.empty() ? host.list().front().name : name},
                       {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
  HttpResponse response = json_response(answer);
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
  std::vector<int32_t> tokens =
      loaded.tokenizer.encode(content ? *content : *prompt, text::SpecialTokens::kParse);
  if (add_special) {
    infer::add_begin_of_text(loaded.tokenizer, tokens);
  }
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
  implementation_->workers.join();
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
    asio::steady_timer timer(self.io);
    while (self.http.active_exchanges() > 0 && std::chrono::steady_clock::now() < deadline) {
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
