#include "kv/eviction_policies.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/error.h"

namespace adze::kv {
namespace {

// How far a prompt may pass an absolute limit: cutting more often would make prefill slow.
constexpr int64_t kPromptSlack = 256;
constexpr int64_t kMost = 1 << 20;

class FullPolicy : public KvPolicy {
 public:
  std::string name() const override { return "full"; }
  bool recomputable() const override { return true; }
};

std::string budget_name(std::string_view policy, const Budget& budget) {
  return fmt::format("{}:keep={},tokens={},sinks={},recent={}",
                     policy,
                     budget.keep,
                     budget.tokens,
                     budget.sinks,
                     budget.recent);
}

// Keeps sinks + window tokens and lets one page more come in before the oldest of the window go.
class WindowPolicy : public BudgetPolicy {
 public:
  explicit WindowPolicy(const WindowOptions& options)
      : BudgetPolicy({.keep = options.keep,
                      .tokens = options.sinks + options.window,
                      .sinks = options.sinks,
                      .recent = 0},
                     false,
                     kPageTokens),
        options_(options) {}

  std::string name() const override {
    const std::string keep = options_.keep < 1 ? fmt::format(",keep={}", options_.keep) : "";
    return fmt::format("window:sinks={},window={}{}", options_.sinks, options_.window, keep);
  }
  Needs needs() const override { return {.rank_positions = true}; }
  // With a share, cuts hang on where the turn began.
  bool recomputable() const override { return options_.keep == 1; }
  // Without a share there is one rule for prompts and answers: the limit and a page.
  int64_t rows_before_cut(const PolicyState& state, const Place& place) const override {
    return options_.keep < 1 ? BudgetPolicy::rows_before_cut(state, place)
                             : std::max<int64_t>(limit() - place.cached, 1);
  }
  bool cuts(const PolicyState& state, const Place& place) const override {
    return options_.keep < 1 ? BudgetPolicy::cuts(state, place) : place.cached >= limit();
  }
  std::optional<Columns> columns(PolicyState& /*state*/,
                                 const Place& place,
                                 SlotView& view) const override {
    const int64_t kept = std::min(target(place), view.length());
    const int64_t dropped = view.length() - kept;
    Columns columns;
    for (int64_t rank = 0; rank < view.length(); ++rank) {
      if (rank < options_.sinks || rank >= options_.sinks + dropped) {
        columns.ranks.push_back(static_cast<int32_t>(rank));
      }
    }
    return columns;
  }

 private:
  int64_t limit() const { return options_.sinks + options_.window + kPageTokens; }

  WindowOptions options_;
};

// Policies whose choice is a score.
class ScoredPolicy : public BudgetPolicy {
 public:
  ScoredPolicy(std::string name, const Budget& budget, bool prompt_only = false)
      : BudgetPolicy(budget, prompt_only, kPromptSlack), name_(std::move(name)) {}

  std::string name() const override { return name_; }
  std::optional<Columns> columns(PolicyState& /*state*/,
                                 const Place& place,
                                 SlotView& view) const override {
    const int64_t count = std::min(slot_target(place, view), view.length());
    if (count == view.length()) {
      return std::nullopt;
    }
    const std::vector<float> score = scores(view);
    return best_columns(score,
                        static_cast<int64_t>(score.size()) / view.length(),
                        view.length(),
                        count,
                        budget().sinks,
                        recent(count));
  }

 protected:
  virtual std::vector<float> scores(SlotView& view) const = 0;  // [1 or kv_heads, length]
  virtual int64_t slot_target(const Place& place, const SlotView& /*view*/) const {
    return target(place);
  }
  virtual int64_t recent(int64_t /*count*/) const { return budget().recent; }

 private:
  std::string name_;
};

class H2oPolicy : public ScoredPolicy {
 public:
  explicit H2oPolicy(const H2oOptions& options)
      : ScoredPolicy(budget_name("h2o", options) + (options.ranks ? ",ranks=true" : ""), options),
        ranks_(options.ranks) {}

  Needs needs() const override { return {.rank_positions = ranks_, .received = evicts()}; }

 protected:
  std::vector<float> scores(SlotView& view) const override { return view.received(); }
  int64_t recent(int64_t count) const override { return std::max(budget().recent, count / 2); }

 private:
  bool ranks_;
};

// The largest of `pool` neighbours, for each token.
std::vector<float> pooled(std::span<const float> votes, int64_t length, int64_t pool) {
  std::vector<float> result(votes.size());
  const int64_t reach = pool / 2;
  for (int64_t head = 0; head * length < static_cast<int64_t>(votes.size()); ++head) {
    const float* row = votes.data() + head * length;
    for (int64_t token = 0; token < length; ++token) {
      const int64_t first = std::max<int64_t>(0, token - reach);
      const int64_t end = std::min(length, token + reach + 1);
      result[static_cast<size_t>(head * length + token)] =
          *std::max_element(row + first, row + end);
    }
  }
  return result;
}

class SnapKvPolicy : public ScoredPolicy {
 public:
  SnapKvPolicy(std::string name, const SnapKvOptions& options)
      : ScoredPolicy(std::move(name), options, true), options_(options) {}

  static std::string options_name(std::string_view policy, const SnapKvOptions& options) {
    return fmt::format("{},pool={}", budget_name(policy, options), options.pool);
  }

  Needs needs() const override { return {.queries = evicts()}; }
  int64_t query_window(const Place& place) const override {
    return place.in_prompt() ? std::max<int64_t>(options_.recent, 1) : 0;
  }

 protected:
  std::vector<float> scores(SlotView& view) const override {
    const int64_t window = std::max<int64_t>(options_.recent, 1);
    return pooled(view.recent_attention(window, {}), view.length(), options_.pool);
  }

 private:
  SnapKvOptions options_;
};

class PyramidKvPolicy : public SnapKvPolicy {
 public:
  explicit PyramidKvPolicy(const PyramidKvOptions& options)
      : SnapKvPolicy(fmt::format("{},beta={}", options_name("pyramidkv", options), options.beta),
                     options),
        beta_(options.beta) {}

  // The slots differ: the first one keeps almost twice the mean.
  int64_t most_cached(int64_t text_tokens) const override {
    return std::min(text_tokens, 2 * SnapKvPolicy::most_cached(text_tokens));
  }

 protected:
  int64_t slot_target(const Place& place, const SlotView& view) const override {
    const int64_t mean = target(place);
    const auto room = static_cast<double>(mean - budget().recent);
    // What the first slots cannot take up, for they hold no more tokens, the others get.
    const auto most = static_cast<double>(place.cached - budget().recent);
    const double first = std::min(2 * room - room / beta_, most);
    const double last = 2 * room - first;
    const double share = view.num_slots() == 1 ? 0.5
                                               : static_cast<double>(view.slot()) /
                                                     static_cast<double>(view.num_slots() - 1);
    const double slot = first + (last - first) * share;
    return budget().recent + std::max<int64_t>(static_cast<int64_t>(std::lround(slot)), 1);
  }

 private:
  double beta_;
};

class TovaPolicy : public ScoredPolicy {
 public:
  explicit TovaPolicy(const TovaOptions& options)
      : ScoredPolicy(budget_name("tova", options), options) {}

  Needs needs() const override { return {.queries = evicts()}; }
  int64_t query_window(const Place& /*place*/) const override { return 1; }

 protected:
  std::vector<float> scores(SlotView& view) const override {
    const std::vector<float> by_head = view.recent_attention(1, {});
    std::vector<float> sums(static_cast<size_t>(view.length()));
    for (size_t i = 0; i < by_head.size(); ++i) {
      sums[i % sums.size()] += by_head[i];
    }
    return sums;
  }
};

class KnormPolicy : public ScoredPolicy {
 public:
  explicit KnormPolicy(const KnormOptions& options)
      : ScoredPolicy(budget_name("knorm", options), options) {}

 protected:
  std::vector<float> scores(SlotView& view) const override {
    const std::vector<float> keys = view.keys();
    const auto tokens = static_cast<size_t>(view.kv_heads() * view.length());
    const size_t head_dim = keys.size() / tokens;
    std::vector<float> result(tokens);
    for (size_t i = 0; i < keys.size(); ++i) {
      result[i / head_dim] -= keys[i] * keys[i];
    }
    return result;
  }
};

class KeyDiffPolicy : public ScoredPolicy {
 public:
  explicit KeyDiffPolicy(const KeyDiffOptions& options)
      : ScoredPolicy(budget_name("keydiff", options), options) {}

 protected:
  std::vector<float> scores(SlotView& view) const override {
    std::vector<float> keys = view.keys();
    const auto length = static_cast<size_t>(view.length());
    const size_t tokens = static_cast<size_t>(view.kv_heads()) * length;
    const size_t head_dim = keys.size() / tokens;
    std::vector<float> mean(keys.size() / length);
    for (size_t token = 0; token < tokens; ++token) {
      float* key = keys.data() + token * head_dim;
      float squares = 0;
      for (size_t dim = 0; dim < head_dim; ++dim) {
        squares += key[dim] * key[dim];
      }
      const float scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
      for (size_t dim = 0; dim < head_dim; ++dim) {
        key[dim] *= scale;
        mean[token / length * head_dim + dim] += key[dim];
      }
    }
    // The mean's length scales all scores of a head alike.
    std::vector<float> result(tokens);
    for (size_t i = 0; i < keys.size(); ++i) {
      const size_t token = i / head_dim;
      result[token] -= keys[i] * mean[token / length * head_dim + i % head_dim];
    }
    return result;
  }
};

void require(std::string_view field, double value, double least, double most) {
  if (!(value >= least && value <= most)) {
    throw core::InvalidOption(fmt::format("kv-policy {}", field),
                              fmt::format("{}", value),
                              fmt::format("{} to {}", least, most));
  }
}

}  // namespace

void WindowOptions::validate() const {
  require("window: sinks", static_cast<double>(sinks), 0, static_cast<double>(kMost));
  require("window: window", static_cast<double>(window), 1, static_cast<double>(kMost));
  Budget{.keep = keep}.validate("window");
}
void H2oOptions::validate() const {
  Budget::validate("h2o");
}
void TovaOptions::validate() const {
  Budget::validate("tova");
}
void KnormOptions::validate() const {
  Budget::validate("knorm");
}
void KeyDiffOptions::validate() const {
  Budget::validate("keydiff");
}
void SnapKvOptions::validate() const {
  Budget::validate("snapkv");
  require("snapkv: pool", static_cast<double>(pool), 1, 255);
  if (pool % 2 == 0) {
    throw core::InvalidOption("kv-policy snapkv: pool", std::to_string(pool), "an odd number");
  }
}
void PyramidKvOptions::validate() const {
  SnapKvOptions::validate();
  require("pyramidkv: beta", beta, 1, 1000);
}

KvPolicyPtr make_full_policy() {
  return std::make_shared<FullPolicy>();
}
KvPolicyPtr make_window_policy(const WindowOptions& options) {
  options.validate();
  return std::make_shared<WindowPolicy>(options);
}
KvPolicyPtr make_h2o_policy(const H2oOptions& options) {
  options.validate();
  return std::make_shared<H2oPolicy>(options);
}
KvPolicyPtr make_snapkv_policy(const SnapKvOptions& options) {
  options.validate();
  return std::make_shared<SnapKvPolicy>(SnapKvPolicy::options_name("snapkv", options), options);
}
KvPolicyPtr make_pyramidkv_policy(const PyramidKvOptions& options) {
  options.validate();
  return std::make_shared<PyramidKvPolicy>(options);
}
KvPolicyPtr make_tova_policy(const TovaOptions& options) {
  options.validate();
  return std::make_shared<TovaPolicy>(options);
}
KvPolicyPtr make_knorm_policy(const KnormOptions& options) {
  options.validate();
  return std::make_shared<KnormPolicy>(options);
}
KvPolicyPtr make_keydiff_policy(const KeyDiffOptions& options) {
  options.validate();
  return std::make_shared<KeyDiffPolicy>(options);
}

}  // namespace adze::kv
