#include "serve/session.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "core/error.h"
#include "core/state_stream.h"
#include "formats/sha256.h"
#include "serve/completion_json.h"
#include "serve/text_mark.h"

namespace adze::serve {
namespace {

constexpr std::string_view kFormat = "adze session 1";
constexpr size_t kLongestId = 64;
constexpr size_t kDigest = 64;  // hexadecimal digits, at the end of a file

ApiError unknown_session(std::string_view id) {
  return {
      404,
      "invalid_request_error",
      fmt::format("[session] expected one that GET /v1/sessions lists, got {}", id.substr(0, 80)),
      "session",
      "session_not_found"};
}

ApiError busy_session(std::string_view id) {
  return {409,
          "invalid_request_error",
          fmt::format("[session] expected one request at a time, got another while {} is answered; "
                      "try again after it",
                      id),
          "session",
          "session_busy"};
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

ApiError session_conflict(const Session& session,
                          std::string_view field,
                          const std::string& has,
                          const std::string& got) {
  return {409,
          "invalid_request_error",
          fmt::format("[{}] expected {}, which the session {} began with, got {}; another session "
                      "may have another",
                      field,
                      has,
                      session.id,
                      got.substr(0, 200)),
          field,
          "session_conflict"};
}

void check_session_id(std::string_view id) {
  const auto letter = [](unsigned char c) { return c < 128 && std::isalnum(c) != 0; };
  const auto legal = [&](char c) {
    return letter(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  if (id.empty() || id.size() > kLongestId || !letter(static_cast<unsigned char>(id.front())) ||
      !std::all_of(id.begin(), id.end(), legal)) {
    throw bad_request("session",
                      fmt::format("[session] expected 1 to {} letters, digits, '-', '_' or '.', "
                                  "the first a letter or digit, got {}",
                                  kLongestId,
                                  shown(Json(id))));
  }
}

Sessions::Lease::Lease(Sessions& sessions, std::string tenant, std::shared_ptr<Session> session)
    : sessions_(&sessions), tenant_(std::move(tenant)), session_(std::move(session)) {
  session_->busy = true;
}

void Sessions::Lease::release() {
  if (!session_) {
    return;
  }
  session_->busy = false;
  session_->used = infer::Clock::now();
  if (!session_->answered()) {
    sessions_->sessions_.erase({tenant_, session_->id});
  }
  session_ = nullptr;
}

void Sessions::Lease::finish(SessionState state) {
  session_->state = std::move(state);
  release();
}

Sessions::Lease Sessions::lease(const std::string& tenant, const std::string& id) {
  expire();
  const auto found = sessions_.find({tenant, id});
  if (found != sessions_.end()) {
    if (found->second->busy) {
      throw busy_session(id);
    }
    return {*this, tenant, found->second};
  }
  const auto own = std::count_if(sessions_.begin(), sessions_.end(), [&](const auto& entry) {
    return entry.first.first == tenant;
  });
  if (own >= limits_.most) {
    throw ApiError(429,
                   "rate_limit_error",
                   fmt::format("[session] expected fewer than {} sessions, got {}: delete one, or "
                               "wait until one that is idle expires",
                               limits_.most,
                               own),
                   "session",
                   "too_many_sessions");
  }
  auto session = std::make_shared<Session>();
  session->id = id;
  sessions_[{tenant, id}] = session;
  return {*this, tenant, std::move(session)};
}

const Session& Sessions::find(const std::string& tenant, const std::string& id) const {
  const auto found = sessions_.find({tenant, id});
  if (found == sessions_.end() || !found->second->answered()) {
    throw unknown_session(id);
  }
  return *found->second;
}

void Sessions::erase(const std::string& tenant, const std::string& id) {
  if (find(tenant, id).busy) {
    throw busy_session(id);
  }
  sessions_.erase({tenant, id});
}

std::vector<const Session*> Sessions::list(const std::string& tenant) const {
  std::vector<const Session*> result;
  for (auto entry = sessions_.lower_bound({tenant, ""});
       entry != sessions_.end() && entry->first.first == tenant;
       ++entry) {
    if (entry->second->answered()) {
      result.push_back(entry->second.get());
    }
  }
  return result;
}

void Sessions::expire() {
  const auto now = infer::Clock::now();
  std::erase_if(sessions_, [&](const auto& entry) {
    return !entry.second->busy && now - entry.second->used > limits_.idle;
  });
}

int64_t Sessions::bytes() const {
  int64_t total = 0;
  for (const auto& [key, session] : sessions_) {
    total += session->state.bytes();
  }
  return total;
}

std::string write_session(const SessionBinding& binding, const SessionState& state) {
  core::StateWriter writer;
  writer.text(kFormat);
  for (const std::string* text :
       {&binding.model, &binding.weights, &binding.store, &binding.policy}) {
    writer.text(*text);
  }
  writer.text(dump(state.messages));
  writer.text(state.text);
  writer.text(state.mark);
  writer.value(static_cast<uint8_t>(state.cache ? 1 : 0));
  if (state.cache) {
    writer.value(state.cache->tokens);
    writer.list(std::span<const int32_t>(state.cache->pending));
    const std::vector<std::byte> data = state.cache->data.read();
    writer.value(static_cast<uint64_t>(data.size()));
    writer.bytes(data);
  }
  const auto& buffer = writer.buffer();
  std::string file(reinterpret_cast<const char*>(buffer.data()), buffer.size());
  return file + formats::sha256(buffer);
}

SessionFile read_session(std::string_view bytes) {
  try {
    if (bytes.size() < kDigest) {
      throw core::error(
          "state", "session: expected a session that was exported, got {} bytes", bytes.size());
    }
    const std::string_view body = bytes.substr(0, bytes.size() - kDigest);
    core::StateReader reader("session", bytes_of(body));
    reader.expect("format", kFormat);
    if (formats::sha256(bytes_of(body)) != bytes.substr(body.size())) {
      throw core::error("state",
                        "session: expected bytes with the checksum at their end, got others");
    }
    SessionFile file;
    SessionBinding& binding = file.binding;
    for (std::string* text : {&binding.model, &binding.weights, &binding.store, &binding.policy}) {
      *text = reader.text();
    }
    file.state.messages = parse_json(reader.text(), "messages");
    file.state.text = reader.text();
    file.state.mark = reader.text();
    const Json& messages = file.state.messages;
    const bool objects = messages.is_array() && !messages.empty() &&
                         std::all_of(messages.begin(), messages.end(), [](const Json& message) {
                           return message.is_object();
                         });
    if (!objects || !is_mark(file.state.mark)) {
      throw core::error("state", "session: expected messages, and a mark of a few noncharacters");
    }
    file.cached = reader.value<uint8_t>() != 0;
    if (file.cached) {
      file.tokens = reader.value<int64_t>();
      file.pending = reader.list<int32_t>();
      const auto cache = reader.bytes(reader.value<uint64_t>());
      file.cache = {reinterpret_cast<const char*>(cache.data()), cache.size()};
    }
    if (!reader.at_end() || file.pending.size() > 1) {
      throw core::error("state", "session: expected its end, got more");
    }
    return file;
  } catch (const core::Error& error) {
    throw bad_request("session", error.what(), "damaged_session");
  }
}

}  // namespace adze::serve
