#pragma once
// What /metrics says, in Prometheus' text format.

#include <memory>
#include <string>
#include <string_view>

#include "serve/model_host.h"

namespace adze::serve {

class Metrics {
 public:
  Metrics();
  ~Metrics();

  // Any thread.
  void count_request(std::string_view route, int status, double seconds);
  void observe_first_token(double seconds);  // since the request came
  void observe_token(double seconds);        // mean of an answer's tokens after the first
  void observe_prompt(int64_t tokens, int64_t cached);
  void observe_answer(int64_t tokens);
  void set_sessions(int64_t count, int64_t bytes);  // of all keys

  // With the state of the models and of the server as of now.
  std::string text(const std::vector<ModelListing>& models, int64_t connections, int64_t exchanges);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace adze::serve
