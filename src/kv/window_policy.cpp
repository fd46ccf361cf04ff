#include <fmt/format.h>

#include "core/error.h"
#include "kv/kv_policy.h"

namespace adze::kv {
namespace {

class FullPolicy : public KvPolicy {
 public:
  std::string name() const override { return "full"; }
  bool recomputable() const override { return true; }
};

// Keeps sinks + window tokens and lets one page more come in before the oldest page of the window
// goes: the drop moves whole pages, so it copies one page at most.
class WindowPolicy : public KvPolicy {
 public:
  explicit WindowPolicy(const WindowOptions& options) : options_(options) {}

  std::string name() const override {
    return fmt::format("window:sinks={},window={}", options_.sinks, options_.window);
  }
  Needs needs() const override { return {.rank_positions = true}; }
  int64_t most_cached(int64_t text_tokens) const override { return std::min(text_tokens, limit()); }
  bool evicts() const override { return true; }
  bool recomputable() const override { return true; }
  int64_t rows_before_cut(const PolicyState& /*state*/, int64_t cached) const override {
    return limit() - cached;
  }
  std::optional<Columns> after_accepted(PolicyState& /*state*/, int64_t cached) const override {
    if (cached < limit()) {
      return std::nullopt;
    }
    Columns columns;
    for (int64_t rank = 0; rank < cached; ++rank) {
      if (rank < options_.sinks || rank >= options_.sinks + kPageTokens) {
        columns.ranks.push_back(static_cast<int32_t>(rank));
      }
    }
    return columns;
  }

 private:
  int64_t limit() const { return options_.sinks + options_.window + kPageTokens; }

  WindowOptions options_;
};

void require_range(std::string_view field, int64_t value, int64_t least) {
  constexpr int64_t kMost = 1 << 20;
  if (value < least || value > kMost) {
    throw core::InvalidOption(fmt::format("kv-policy window: {}", field),
                              std::to_string(value),
                              fmt::format("{} to {}", least, kMost));
  }
}

}  // namespace

void WindowOptions::validate() const {
  require_range("sinks", sinks, 0);
  require_range("window", window, 1);
}

KvPolicyPtr make_full_policy() {
  return std::make_shared<FullPolicy>();
}

KvPolicyPtr make_window_policy(const WindowOptions& options) {
  options.validate();
  return std::make_shared<WindowPolicy>(options);
}

}  // namespace adze::kv
