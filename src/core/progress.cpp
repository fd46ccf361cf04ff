#include "core/progress.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

namespace adze::core {
namespace {

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return whole >= 3600 ? fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
                       : fmt::format("{}:{:02}", whole / 60, whole % 60);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  finish(note_);
}

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  if (terminal_ && seconds_since(drawn_) >= 0.1) {
    draw(false);
  }
}

void Progress::finish(const std::string& note) {
  if (finished_) {
    return;
  }
  finished_ = true;
  note_ = note;
  draw(true);
}

void Progress::draw(bool last) {
  drawn_ = std::chrono::steady_clock::now();
  const double seconds = std::max(seconds_since(start_), 1e-9);
  const double rate = static_cast<double>(done_) / seconds;
  std::string line = label_ + " ";
  if (terminal_ && total_ > 0) {
    constexpr int64_t kWidth = 24;
    const int64_t filled = std::clamp<int64_t>(done_ * kWidth / total_, 0, kWidth);
    for (int64_t cell = 0; cell < kWidth; ++cell) {
      line += cell < filled ? "█" : "░";
    }
    line += " ";
  }
  line += total_ > 0 ? fmt::format("{}/{} {}", done_, total_, unit_)
                     : fmt::format("{} {}", done_, unit_);
  line += fmt::format(", {:.0f} {}/s", rate, unit_);
  if (last) {
    line += fmt::format(", {:.1f} s", seconds);
  } else if (total_ > done_ && done_ > 0) {
    line += fmt::format(", {} left", duration_text(static_cast<double>(total_ - done_) / rate));
  }
  if (!note_.empty()) {
    line += ", " + note_;
  }
  if (terminal_) {
    std::fprintf(stderr, "\r%s\033[K%s", line.c_str(), last ? "\n" : "");
    std::fflush(stderr);
  } else if (last) {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

}  // namespace adze::core
