#include "text/stream.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/utf8.h"

namespace adze::text {

std::string TokenStream::push(int32_t id) {
  std::string bytes;
  if (with_control_tokens_ || !tokenizer_.is_control(id)) {
    tokenizer_.decode_next(id, state_, bytes);
  }
  return bytes;
}

std::string Utf8Stream::push(std::string_view bytes) {
  held_.append(bytes);
  std::string_view rest = held_;
  std::string text;
  text.reserve(rest.size());
  while (!rest.empty()) {
    const size_t valid = valid_prefix(rest);
    text.append(rest.substr(0, valid));
    rest.remove_prefix(valid);
    if (rest.empty()) {
      break;
    }
    const Utf8Step step = next_character(rest);
    if (step.state == Utf8Step::State::kIncomplete) {
      break;
    }
    text.append(kReplacementCharacter);
    rest.remove_prefix(step.length);
  }
  held_ = std::string(rest);
  return text;
}

std::string Utf8Stream::finish() {
  // What is held is the front of one sequence: one maximal subpart.
  const bool incomplete = !std::exchange(held_, {}).empty();
  return incomplete ? std::string(kReplacementCharacter) : std::string();
}

StopMatcher::StopMatcher(std::vector<std::string> stops) : matched_(stops.size(), 0) {
  std::vector<Stop> tables;
  for (std::string& text : stops) {
    if (text.empty()) {
      throw core::InvalidOption("stop", "an empty string", "strings of at least one byte");
    }
    std::vector<size_t> borders(text.size(), 0);
    for (size_t end = 1, border = 0; end < text.size(); ++end) {
      while (border > 0 && text[end] != text[border]) {
        border = borders[border - 1];
      }
      border += text[end] == text[border] ? 1 : 0;
      borders[end] = border;
    }
    tables.push_back({std::move(text), std::move(borders)});
  }
  stops_ = std::make_shared<const std::vector<Stop>>(std::move(tables));
}

size_t StopMatcher::Stop::advance(size_t matched, char byte) const {
  while (matched > 0 && text[matched] != byte) {
    matched = borders[matched - 1];
  }
  return matched + (text[matched] == byte ? 1 : 0);
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) {
    return {};
  }
  for (const char byte : text) {
    held_ += byte;
    size_t found = 0;  // bytes of the longest stop string that ends here
    for (size_t i = 0; i < matched_.size(); ++i) {
      const Stop& stop = (*stops_)[i];
      matched_[i] = stop.advance(matched_[i], byte);
      if (matched_[i] == stop.text.size()) {
        found = std::max(found, stop.text.size());
      }
    }
    if (found > 0) {
      stopped_ = true;
      held_.resize(held_.size() - found);
      return std::exchange(held_, {});
    }
  }
  size_t kept = 0;
  for (const size_t matched : matched_) {
    kept = std::max(kept, matched);
  }
  std::string safe = held_.substr(0, held_.size() - kept);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace adze::text
