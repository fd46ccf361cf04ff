#include "kv/budget_policy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "core/check.h"
#include "core/error.h"

namespace adze::kv {
namespace {

constexpr int64_t kMostTokens = 1 << 20;
// Tokens between cuts while a text grows: a page.
constexpr int64_t kCutRows = kPageTokens;

}  // namespace

void Budget::validate(std::string_view policy) const {
  const auto fail = [&](std::string_view field, auto value, const std::string& range) {
    throw core::InvalidOption(
        fmt::format("kv-policy {}: {}", policy, field), fmt::format("{}", value), range);
  };
  if (!(keep > 0 && keep <= 1)) {
    fail("keep", keep, "above 0, at most 1");
  }
  for (const auto& [field, value] : {std::pair("sinks", sinks), {"recent", recent}}) {
    if (value < 0 || value > kMostTokens) {
      fail(field, value, fmt::format("0 to {}", kMostTokens));
    }
  }
  const int64_t least = sinks + recent + 1;  // as least_cached()
  if (tokens != 0 && (tokens < least || tokens > kMostTokens)) {
    fail("tokens",
         tokens,
         fmt::format("{} (sinks + recent + 1) to {}, or 0 for no limit", least, kMostTokens));
  }
}

BudgetPolicy::BudgetPolicy(const Budget& budget, bool prompt_only, int64_t prompt_slack)
    : budget_(budget), prompt_only_(prompt_only), prompt_slack_(prompt_slack) {}

int64_t BudgetPolicy::most_cached(int64_t text_tokens) const {
  const bool limited = budget_.tokens > 0 && !prompt_only_;
  return limited ? std::min(text_tokens, budget_.tokens + std::max(prompt_slack_, kCutRows))
                 : text_tokens;
}

int64_t BudgetPolicy::target(const Place& place) const {
  // The tolerance makes 0.3 of 10 tokens 3.
  int64_t tokens = budget_.keep < 1 ? static_cast<int64_t>(std::floor(
                                          budget_.keep * static_cast<double>(place.tokens) + 1e-9))
                                    : place.tokens;
  if (budget_.tokens > 0) {
    tokens = std::min(tokens, budget_.tokens);
  }
  return std::max(tokens, least_cached());
}

int64_t BudgetPolicy::rows_before_cut(const PolicyState& /*state*/, const Place& place) const {
  if (!evicts()) {
    return std::numeric_limits<int64_t>::max();
  }
  int64_t rows = kCutRows - (place.tokens - place.turn_end) % kCutRows;
  if (place.in_prompt()) {
    rows = place.turn_end - place.tokens;
    if (budget_.tokens > 0 && !prompt_only_) {
      const int64_t room = budget_.tokens + prompt_slack_ - place.cached;
      rows = std::min(rows, std::max<int64_t>(room, 1));
    }
  } else if (prompt_only_) {
    rows = std::numeric_limits<int64_t>::max();
  }
  return rows;
}

bool BudgetPolicy::cuts(const PolicyState& /*state*/, const Place& place) const {
  if (!evicts() || place.cached <= target(place)) {
    return false;
  }
  if (place.in_prompt()) {
    return budget_.tokens > 0 && !prompt_only_ && place.cached >= budget_.tokens + prompt_slack_;
  }
  return place.tokens == place.turn_end ||
         (!prompt_only_ && (place.tokens - place.turn_end) % kCutRows == 0);
}

Columns best_columns(std::span<const float> scores,
                     int64_t heads,
                     int64_t length,
                     int64_t count,
                     int64_t sinks,
                     int64_t recent) {
  core::check(static_cast<int64_t>(scores.size()) == heads * length, "a score a head and token");
  core::check(count >= 1 && count <= length, "1 to ", length, " tokens, got ", count);
  sinks = std::min(sinks, count);
  recent = std::min(recent, count - sinks);
  Columns columns{.heads = heads, .ranks = {}};
  std::vector<int32_t> order(static_cast<size_t>(length));
  // Of damaged keys: the worst. An order with NaN in it is none.
  std::vector<float> clean(scores.begin(), scores.end());
  std::replace_if(
      clean.begin(), clean.end(), [](float score) { return std::isnan(score); }, -INFINITY);
  for (int64_t head = 0; head < heads; ++head) {
    const float* score = clean.data() + head * length;
    std::iota(order.begin(), order.end(), 0);
    const auto first = order.begin() + sinks;
    const auto last = order.end() - recent;
    const auto chosen = first + (count - sinks - recent);
    std::nth_element(first, chosen, last, [score](int32_t a, int32_t b) {
      return score[a] != score[b] ? score[a] > score[b] : a < b;
    });
    std::vector<int32_t> kept(order.begin(), chosen);
    kept.insert(kept.end(), last, order.end());
    std::sort(kept.begin(), kept.end());
    columns.ranks.insert(columns.ranks.end(), kept.begin(), kept.end());
  }
  return columns;
}

}  // namespace adze::kv
