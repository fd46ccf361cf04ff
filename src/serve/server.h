#pragma once
// adze serve: routes, keys and what holds them together. One thread for HTTP, one a model for
// computing.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/http_server.h"
#include "serve/model_host.h"
#include "serve/session.h"
#include "serve/submission.h"

namespace adze::serve {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  std::vector<std::string> keys;  // none: no key is asked for
  std::optional<std::string> cors_origin;
  bool json_log = false;
  bool quiet = false;  // no access log
  double drain_seconds = 30;
  HttpLimits limits;
  AnswerLimits answers;
  SessionLimits sessions;
  std::optional<std::string> lab_page;  // HTML, at /lab
};

struct RouteInfo {
  std::string method;
  std::string path;  // "*": any part, "**": all that follows
  bool open;         // needs no key
};

class Server {
 public:
  Server(const ServerOptions& options,
         std::vector<ModelEntry> models,
         std::vector<AdapterEntry> adapters,
         const ModelHostOptions& hosting);
  ~Server();

  static std::vector<RouteInfo> routes();
  int listen();  // the port
  // Loads the first model, so that a damaged file is told of at once.
  void load_first();
  // Serves until SIGTERM or SIGINT; then finishes what runs. Returns whether all of it ended.
  bool run();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace adze::serve
