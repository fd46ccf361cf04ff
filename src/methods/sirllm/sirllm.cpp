#include "methods/sirllm/sirllm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "core/check.h"
#include "core/error.h"

namespace adze::methods::sirllm {
namespace {

// Where an answer outgrows what was reserved, room is made for so many tokens at a time, or for a
// quarter of the cache.
constexpr int64_t kAnswerBlock = 32;
// A probability that underflows would be remembered for ever.
constexpr float kMostSurprisal = 50;

class State : public kv::PolicyState {
 public:
  std::unique_ptr<kv::PolicyState> fork() const override { return std::make_unique<State>(*this); }
  void truncate(int64_t tokens) override {
    surprisals.resize(static_cast<size_t>(tokens));
    turn_and_answer_end = -1;
  }
  void save(core::StateWriter& writer) const override {
    writer.list(std::span<const float>(surprisals));
    writer.value(turn_and_answer_end);
  }
  void load(core::StateReader& reader) override {
    surprisals = reader.list<float>();
    turn_and_answer_end = reader.value<int64_t>();
  }
  bool fits(std::span<const int64_t> lengths, int64_t /*tokens*/) const override {
    const auto cached = static_cast<int64_t>(surprisals.size());
    return std::count(lengths.begin(), lengths.end(), cached) ==
               static_cast<int64_t>(lengths.size()) &&
           std::all_of(surprisals.begin(), surprisals.end(), [](float surprisal) {
             return surprisal >= 0 && surprisal <= kMostSurprisal;
           });
  }
  int64_t bytes() const override { return static_cast<int64_t>(surprisals.size() * sizeof(float)); }

  std::vector<float> surprisals;  // of the cached tokens, decayed
  // Tokens seen when the turn and its whole answer are in: a cache that is full there may stay so.
  // -1: the answer may not fit.
  int64_t turn_and_answer_end = -1;
};

State& own(kv::PolicyState& state) {
  return static_cast<State&>(state);
}

class SirLlmPolicy : public kv::KvPolicy {
 public:
  explicit SirLlmPolicy(const SirLlmOptions& options) : options_(options) {
    if (options_.recent < 0) {
      options_.recent =
          std::min(std::max<int64_t>(64, options_.tokens / 16), options_.tokens - options_.sinks);
    }
  }

  std::string name() const override {
    return fmt::format("sirllm:tokens={},sinks={},recent={},decay={},keep={}",
                       options_.tokens,
                       options_.sinks,
                       options_.recent,
                       options_.decay,
                       options_.keep);
  }
  // [12 §2.5]: a key is rotated to its rank in the cache.
  kv::Needs needs() const override { return {.rank_positions = true, .surprisal = true}; }
  std::unique_ptr<kv::PolicyState> new_state() const override { return std::make_unique<State>(); }
  int64_t most_cached(int64_t text_tokens) const override {
    return std::min(text_tokens, options_.tokens);
  }
  int64_t least_cached() const override { return options_.sinks + kLeastRoom; }
  bool evicts() const override { return true; }

  std::optional<kv::Columns> begin_turn(kv::PolicyState& state,
                                        const kv::Place& place,
                                        int64_t incoming,
                                        int64_t reserved) const override {
    if (incoming == 0) {
      return std::nullopt;
    }
    // [12 §2.3 step 1] and [12 §2.3 step 5]: room for the turn and, up to a quarter of the cache,
    // for its answer.
    const Capacity now = capacity(place.tokens + incoming);
    const int64_t granted = std::min(reserved, now.tokens / 4);
    auto columns = evict(own(state), now, std::min(incoming + granted, now.tokens - now.sinks - 1));
    const auto cached = static_cast<int64_t>(own(state).surprisals.size());
    own(state).turn_and_answer_end = reserved == 0 || cached + incoming + reserved <= now.tokens
                                         ? place.tokens + incoming + reserved
                                         : -1;
    // [12 §2.3 step 2]: fades after the eviction, whether or not there was one.
    for (float& surprisal : own(state).surprisals) {
      surprisal *= static_cast<float>(options_.decay);
    }
    return columns;
  }

  int64_t rows_before_cut(const kv::PolicyState& /*state*/, const kv::Place& place) const override {
    const int64_t room = std::max<int64_t>(capacity_at(place).tokens - place.cached, 1);
    return place.in_prompt() ? std::min(room, place.turn_end - place.tokens) : room;
  }
  void add_surprisals(kv::PolicyState& state, std::span<const float> nats) const override {
    for (const float surprisal : nats) {  // [12 §2.3 step 4]
      // Of damaged weights or keys, NaN: 0, for an order with NaN in it is none.
      own(state).surprisals.push_back(std::fmin(std::fmax(surprisal, 0.0F), kMostSurprisal));
    }
  }
  // [12 §2.4 step 1]: a turn that does not fit comes in blocks, which fade nothing.
  bool cuts(const kv::PolicyState& state, const kv::Place& place) const override {
    return place.cached >= capacity_at(place).tokens &&
           place.tokens != static_cast<const State&>(state).turn_and_answer_end;
  }
  std::optional<kv::Columns> columns(kv::PolicyState& state,
                                     const kv::Place& place,
                                     kv::SlotView& view) const override {
    const Capacity now = capacity_at(place);
    const int64_t block = std::min(kAnswerBlock, now.tokens / 4);
    const int64_t left = place.in_prompt() ? place.turn_end - place.tokens : block;
    // All slots lose the same tokens; the surprisals go with those of the last one.
    State copy = own(state);
    auto columns = evict(copy, now, std::clamp<int64_t>(left, 1, now.tokens - now.sinks - 1));
    if (view.slot() == view.num_slots() - 1) {
      own(state) = std::move(copy);
    }
    return columns;
  }

 private:
  static constexpr int64_t kLeastRoom = 8;

  Capacity capacity(int64_t seen) const {
    Capacity capacity{options_.tokens, options_.sinks, options_.recent};
    if (options_.keep < 1) {
      const auto share = static_cast<int64_t>(options_.keep * static_cast<double>(seen) + 1e-9);
      capacity.tokens = std::clamp(share, least_cached(), options_.tokens);
      // Recent tokens keep their part of what is not sinks.
      capacity.recent = options_.recent * (capacity.tokens - options_.sinks) /
                        std::max<int64_t>(options_.tokens - options_.sinks, 1);
    }
    return capacity;
  }

  // A share is one of the whole prompt: within it the limit in tokens alone holds.
  Capacity capacity_at(const kv::Place& place) const {
    return place.in_prompt() ? Capacity{options_.tokens, options_.sinks, options_.recent}
                             : capacity(place.tokens);
  }

  static std::optional<kv::Columns> evict(State& state,
                                          const Capacity& capacity,
                                          int64_t incoming) {
    std::vector<int32_t> kept = ranks_to_keep(state.surprisals, capacity, incoming);
    if (kept.size() == state.surprisals.size()) {
      return std::nullopt;
    }
    for (size_t i = 0; i < kept.size(); ++i) {
      state.surprisals[i] = state.surprisals[static_cast<size_t>(kept[i])];
    }
    state.surprisals.resize(kept.size());
    return kv::Columns{.heads = 1, .ranks = std::move(kept)};
  }

  SirLlmOptions options_;
};

}  // namespace

std::vector<int32_t> ranks_to_keep(std::span<const float> surprisals,
                                   const Capacity& capacity,
                                   int64_t incoming) {
  const auto cached = static_cast<int64_t>(surprisals.size());
  std::vector<int32_t> order(surprisals.size());
  std::iota(order.begin(), order.end(), 0);
  if (cached + incoming <= capacity.tokens) {  // [12 §2.4 step 1]
    return order;
  }
  const int64_t target = capacity.tokens - incoming;
  core::check(target >= capacity.sinks && target > 0, "a turn that fits beside the sinks");
  // [12 §2.4 step 2]
  const int64_t entropy = capacity.tokens - capacity.sinks - capacity.recent;
  const int64_t chosen = std::clamp<int64_t>(entropy - incoming, 0, cached);
  // [12 §2.4 step 3] DEVIATION: of equal surprisals the newer stays, so that decay = 0 means the
  // newest tokens and not the oldest.
  std::vector<int32_t> by_surprisal = order;
  std::stable_sort(by_surprisal.begin(), by_surprisal.end(), [&](int32_t a, int32_t b) {
    const float left = surprisals[static_cast<size_t>(a)];
    const float right = surprisals[static_cast<size_t>(b)];
    return left != right ? left > right : a > b;
  });
  std::vector<bool> stays(surprisals.size(), false);
  for (int64_t i = 0; i < chosen; ++i) {
    stays[static_cast<size_t>(by_surprisal[static_cast<size_t>(i)])] = true;
  }
  // [12 §2.4 step 4]
  for (int64_t sink = 0; sink < std::min(capacity.sinks, cached); ++sink) {
    stays[static_cast<size_t>(sink)] = true;
  }
  // [12 §2.4 step 5]: the newest take what is left.
  auto kept = std::count(stays.begin(), stays.end(), true);
  for (int64_t rank = cached - 1; rank > 0 && kept < target; --rank) {
    if (!stays[static_cast<size_t>(rank)]) {
      stays[static_cast<size_t>(rank)] = true;
      ++kept;
    }
  }
  std::vector<int32_t> ranks;  // [12 §2.4 step 6]
  for (const int32_t rank : order) {
    if (stays[static_cast<size_t>(rank)]) {
      ranks.push_back(rank);
    }
  }
  return ranks;
}

void SirLlmOptions::validate() const {
  constexpr int64_t kMost = 1 << 20;
  const auto require = [](std::string_view field, auto value, auto least, auto most) {
    if (!(value >= least && value <= most)) {
      throw core::InvalidOption(fmt::format("kv-policy sirllm: {}", field),
                                fmt::format("{}", value),
                                fmt::format("{} to {}", least, most));
    }
  };
  require("tokens", tokens, int64_t{16}, kMost);
  require("sinks", sinks, int64_t{0}, tokens - 8);
  require("recent", recent, int64_t{-1}, tokens - sinks);
  require("decay", decay, 0.0, 1.0);
  if (!(keep > 0 && keep <= 1)) {
    throw core::InvalidOption(
        "kv-policy sirllm: keep", fmt::format("{}", keep), "above 0, at most 1");
  }
}

kv::KvPolicyPtr make_policy(const SirLlmOptions& options) {
  options.validate();
  return std::make_shared<SirLlmPolicy>(options);
}

kv::PolicyEntry policy_entry() {
  return kv::make_policy_entry<SirLlmOptions>(
      "sirllm", "the most surprising tokens stay, fading turn by turn; endless text", make_policy);
}

}  // namespace adze::methods::sirllm
