#pragma once
// A progress line on stderr with rate and time left. On a terminal it redraws in place, ten times a
// second at most; elsewhere it prints nothing but the final line, so that logs stay readable.

#include <chrono>
#include <cstdint>
#include <string>

namespace adze::core {

class Progress {
 public:
  // total in `unit`s ("tokens", "chunks", "MB"); 0 when unknown.
  Progress(std::string label, int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(int64_t done, const std::string& note = "");  // note: shown behind the figures
  void finish(const std::string& note = "");                // idempotent; prints the final line

 private:
  void draw(bool last);

  std::string label_;
  std::string unit_;
  std::string note_;
  int64_t total_;
  int64_t done_ = 0;
  bool terminal_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point drawn_;
};

}  // namespace adze::core
