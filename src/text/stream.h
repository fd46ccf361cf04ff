#pragma once
// What stands between token bytes and a reader: whole UTF-8 characters only, and stop strings that
// may span tokens.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace adze::text {

// Holds back an incomplete character at the end; invalid bytes become U+FFFD (one for each maximal
// subpart, as in the Unicode standard, section 3.9).
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);
  std::string finish();  // what was held back, as U+FFFD

 private:
  std::string held_;
};

// Finds the earliest of several stop strings in streamed text. Text that could still become a stop
// string is held back; the stop string itself is never given out.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // throws InvalidOption for an empty string

  std::string push(std::string_view text);  // text that is safe to show
  bool stopped() const { return stopped_; }
  std::string finish();  // what was held back, when generation ended without a stop string

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace adze::text
