#pragma once
// Chats that the server keeps between requests (field `session`): a request carries only the new
// messages. What is kept of the cache lies on disk, so that an idle session holds no pages. It
// changes when an answer is complete and not before: a request that fails or is cancelled leaves
// its session as it was.

#include <chrono>
#include <cstdint>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "infer/scheduler.h"
#include "serve/api_error.h"
#include "serve/request_json.h"

namespace adze::serve {

// What a session's cache goes with; it does not change while the session lives.
struct SessionBinding {
  std::string model;    // as requests name it
  std::string weights;  // that go by this name
  std::string store;    // with all keys
  std::string policy;   // likewise

  bool operator==(const SessionBinding&) const = default;
};

struct SessionState {
  Json messages = Json::array();  // none: there has been no answer yet
  // What the cache stands for: the messages as the template writes them, with the texts of
  // strangers marked (RenderedChat).
  std::string text;
  std::string mark;
  std::shared_ptr<const infer::KeptText> cache;  // null: the next turn reads all messages

  int64_t tokens() const { return cache ? cache->tokens : 0; }
  int64_t bytes() const { return cache ? cache->data.bytes() : 0; }  // on disk
};

struct Session {
  std::string id;
  SessionBinding binding;
  SessionState state;
  std::time_t created = std::time(nullptr);
  infer::Clock::time_point used = infer::Clock::now();
  bool busy = false;  // a request goes on with it

  bool answered() const { return !state.messages.empty(); }
};

struct SessionLimits {
  int64_t most = 64;                                              // of each key
  std::chrono::duration<double> idle = std::chrono::minutes(60);  // then they are dropped
};

// A request that wants something else than the session began with (409).
ApiError session_conflict(const Session& session,
                          std::string_view field,
                          const std::string& has,
                          const std::string& got);

// Throws ApiError: 1 to 64 letters, digits, '-', '_' or '.', the first a letter or digit.
void check_session_id(std::string_view id);

// Of the server's thread. A tenant sees its own sessions alone.
class Sessions {
 public:
  // A session in use by one request: busy as long as this lives, and gone with it if it is new and
  // has had no answer.
  class Lease {
   public:
    Lease(Sessions& sessions, std::string tenant, std::shared_ptr<Session> session);
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&& other) = delete;
    ~Lease() { release(); }
    Session& session() const { return *session_; }  // while it is held
    // The session goes on so; it is free for the next request.
    void finish(SessionState state);

   private:
    void release();

    Sessions* sessions_;
    std::string tenant_;
    std::shared_ptr<Session> session_;
  };

  explicit Sessions(const SessionLimits& limits) : limits_(limits) {}

  // There already, or new. Throws ApiError: 409 in use, 429 too many.
  Lease lease(const std::string& tenant, const std::string& id);
  // Those that have had an answer. Throws ApiError: 404.
  const Session& find(const std::string& tenant, const std::string& id) const;
  void erase(const std::string& tenant, const std::string& id);  // likewise, and 409
  std::vector<const Session*> list(const std::string& tenant) const;
  void expire();  // drops those that nobody has used for long
  const SessionLimits& limits() const { return limits_; }

  int64_t count() const { return static_cast<int64_t>(sessions_.size()); }  // of all tenants
  int64_t bytes() const;

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, id
  SessionLimits limits_;
  std::map<Key, std::shared_ptr<Session>> sessions_;
};

// A session as a file: everything that goes on with it, and a checksum.
std::string write_session(const SessionBinding& binding, const SessionState& state);

struct SessionFile {
  SessionBinding binding;
  SessionState state;  // but for the cache
  bool cached = false;
  int64_t tokens = 0;
  std::vector<int32_t> pending;
  std::string_view cache;  // of the bytes that were read
};
// Throws ApiError (400): damaged, or no such file. The cache's bytes have not been looked at.
SessionFile read_session(std::string_view bytes);

}  // namespace adze::serve
