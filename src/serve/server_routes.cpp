// What the routes answer.

#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "kv/cache_registry.h"
#include "serve/api_error.h"
#include "serve/completion_api.h"
#include "serve/completion_json.h"
#include "serve/embedding_api.h"
#include "serve/server_implementation.h"
#include "serve/session_api.h"
#include "serve/tokenize_api.h"
#include "serve/web_files.h"
#include "train/run_catalogue.h"
#include "train/runs_page.h"

namespace adze::serve {
namespace {

using boost::asio::awaitable;

constexpr std::string_view kPageSecurity =
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'";
// One file that brings its style along.
constexpr std::string_view kLabSecurity =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'";

HttpResponse json_response(const Json& json, int status = 200) {
  return {.status = status, .content_type = "application/json", .body = dump(json), .headers = {}};
}

HttpResponse whole_page(std::string html) {
  return {.status = 200,
          .content_type = "text/html; charset=utf-8",
          .body = std::move(html),
          .headers = {{"Cache-Control", "no-cache"},
                      {"Content-Security-Policy", std::string(kLabSecurity)},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"}}};
}

}  // namespace

awaitable<NamedModel> Server::Implementation::model_of(const std::string& name) {
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
  const infer::CacheChoice& usual = host.options().cache;
  answer["defaults"] = {{"kv_store", usual.store}, {"kv_policy", usual.policy}};
  answer["lab"] = options.lab_page ? Json("/lab") : Json();
  HttpResponse response = json_response(answer);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::chat(Exchange& exchange, const std::string& tenant) {
  const auto since = infer::Clock::now();
  CompletionRequest request = co_await read(exchange.request().body, read_chat_request);
  co_await run_completion(exchange, tenant, std::move(request), since);
}

awaitable<void> Server::Implementation::complete(Exchange& exchange, const std::string& tenant) {
  const auto since = infer::Clock::now();
  CompletionRequest request = co_await read(exchange.request().body, read_completion_request);
  co_await run_completion(exchange, tenant, std::move(request), since);
}

awaitable<void> Server::Implementation::run_completion(Exchange& exchange,
                                                       const std::string& tenant,
                                                       CompletionRequest request,
                                                       infer::Clock::time_point since) {
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
      io, preparers, metrics, options.answers, tenant, lease ? &*lease : nullptr, since};
  co_await answer_completion(context, exchange, request, named);
}

awaitable<void> Server::Implementation::embed(Exchange& exchange, const std::string&) {
  const auto since = infer::Clock::now();
  EmbeddingRequest request = co_await read(exchange.request().body, read_embedding_request);
  const NamedModel named = co_await model_of(request.model);
  if (request.model.empty()) {
    request.model = host.list().front().name;
  }
  const EmbeddingContext context{io,
                                 embedders,
                                 preparers,
                                 options.answers,
                                 embedding,
                                 host.options().scheduling.max_queue,
                                 since};
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
  const TokenizeRequest request = co_await read(exchange.request().body, read_tokenize_request);
  const NamedModel named = co_await model_of(request.model);
  const std::function<std::string()> write = [&] {
    return dump(tokenized(request, named.model->loaded()));
  };
  HttpResponse response;
  response.body = co_await preparers.run(write);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::detokenize(Exchange& exchange, const std::string&) {
  const DetokenizeRequest request = co_await read(exchange.request().body, read_detokenize_request);
  const NamedModel named = co_await model_of(request.model);
  const std::function<std::string()> write = [&] {
    return dump(detokenized(request, named.model->loaded()));
  };
  HttpResponse response;
  response.body = co_await preparers.run(write);
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
  HttpResponse response = whole_page(*options.lab_page);
  co_await exchange.respond(std::move(response));
}

awaitable<void> Server::Implementation::training_runs(Exchange& exchange, const std::string&) {
  const train::RunsPageChoice choice = train::parse_runs_page(exchange.request().query);
  const std::function<std::string()> draw = [&choice] {
    std::vector<train::CataloguedRun> runs;
    if (std::filesystem::exists(train::run_catalogue_path())) {  // looking makes no file
      runs = train::RunCatalogue().runs();
    }
    return train::runs_page(runs, choice);
  };
  std::string page = co_await preparers.run(draw);
  HttpResponse response = whole_page(std::move(page));
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

}  // namespace adze::serve
