#include "serve/session_api.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "core/error.h"
#include "core/state_stream.h"
#include "serve/api_error.h"
#include "serve/session_turn.h"

namespace adze::serve {
namespace {

constexpr std::string_view kPrefix = "/v1/sessions/";

ApiError damaged(const std::string& message) {
  return bad_request("session", message, "damaged_session");
}

}  // namespace

std::string session_of(std::string_view path) {
  path.remove_prefix(kPrefix.size());
  return std::string(path.substr(0, path.find('/')));
}

Json session_json(const Session& session, const SessionLimits& limits) {
  const std::chrono::duration<double> idle = infer::Clock::now() - session.used;
  return {{"id", session.id},
          {"object", "session"},
          {"created", session.created},
          {"model", session.binding.model},
          {"kv_store", session.binding.store},
          {"kv_policy", session.binding.policy},
          {"messages", session.state.messages.size()},
          {"tokens", session.state.tokens()},
          {"bytes", session.state.bytes()},
          {"busy", session.busy},
          {"expires_in_seconds", std::max((limits.idle - idle).count(), 0.0)}};
}

void keep_choices(const Session& session, CompletionRequest& request) {
  if (!session.answered()) {
    return;
  }
  const SessionBinding& own = session.binding;
  if (!request.model.empty() && request.model != own.model) {
    throw session_conflict(session, "model", own.model, request.model);
  }
  for (const auto& [field, value] : {std::pair(&request.model, &own.model),
                                     {&request.kv_store, &own.store},
                                     {&request.kv_policy, &own.policy}}) {
    if (field->empty()) {
      *field = *value;
    }
  }
}

SessionState check_session(SessionFile&& file, const NamedModel& named, infer::SwapSpace* swap) {
  SessionBinding& binding = file.binding;
  if (!named.model->generates()) {
    throw damaged("[session] expected one of a model that writes text");
  }
  const infer::ModelEngine& engine = named.model->engine();
  const infer::CacheChoice choice{
      .store = binding.store, .policy = binding.policy, .tenant = "", .adapter = named.adapter};
  const SessionBinding own = session_binding(binding.model, named, choice);
  if (own.weights != binding.weights) {
    throw damaged(fmt::format("[session] expected one of the model {} ({}), got one of {}",
                              own.model,
                              own.weights,
                              shown(Json(binding.weights))));
  }
  binding = own;
  SessionState state = std::move(file.state);
  if (!file.cached) {
    return state;
  }
  for (const int32_t token : file.pending) {
    if (token < 0 || token >= engine.vocab_size()) {
      throw damaged("[session] expected tokens of the model");
    }
  }
  const auto bytes = std::as_bytes(std::span(file.cache.data(), file.cache.size()));
  core::StateReader reader("session", bytes);
  try {
    engine.check_saved(choice, reader, file.tokens);
  } catch (const core::Error& error) {
    throw damaged(error.what());
  }
  const auto size = static_cast<int64_t>(bytes.size());
  auto room = swap != nullptr ? swap->reserve(size) : std::nullopt;
  if (!room) {
    throw infer::QueueFull(fmt::format(
        "[swap] expected room for {} bytes, which the session needs on disk, got less; try again "
        "later",
        size));
  }
  try {
    state.cache = std::make_shared<infer::KeptText>(infer::KeptText{.tokens = file.tokens,
                                                                    .pending = file.pending,
                                                                    .data = swap->save(bytes),
                                                                    .room = std::move(*room)});
  } catch (const core::Error& error) {
    throw infer::QueueFull(error.what());
  }
  return state;
}

}  // namespace adze::serve
