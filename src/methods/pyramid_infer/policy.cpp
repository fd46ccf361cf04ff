#include <algorithm>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "core/error.h"
#include "methods/pyramid_infer/pyramid_infer.h"

namespace adze::methods::pyramid_infer {
namespace {

// What the floor of a preset is stated for: lengths vary little with either.
constexpr int64_t kNominalPrompt = 2048;
constexpr int64_t kNominalLayers = 32;
// A prompt runs in one step.
constexpr int64_t kMostPrompt = 32768;

class State : public kv::PolicyState {
 public:
  std::unique_ptr<kv::PolicyState> fork() const override { return std::make_unique<State>(*this); }
  void save(core::StateWriter& writer) const override {
    writer.list(std::span<const int64_t>(anchors));
    writer.value(decay);
    writer.value(prompt);
  }
  void load(core::StateReader& reader) override {
    anchors = reader.list<int64_t>();
    decay = reader.value<double>();
    prompt = reader.value<int64_t>();
  }
  bool fits(std::span<const int64_t> lengths, int64_t tokens) const override {
    bool within = anchors.empty() || anchors.size() == lengths.size();
    for (size_t i = 0; within && i < anchors.size(); ++i) {
      within = anchors[i] == -1 || (anchors[i] >= 1 && anchors[i] <= lengths[i]);
    }
    return within && decay >= 0 && decay <= 1 && prompt >= 0 && prompt <= tokens;
  }
  int64_t bytes() const override { return static_cast<int64_t>(anchors.size() * sizeof(int64_t)); }

  std::vector<int64_t> anchors;  // a_l [11 §2.5]: tokens of a slot that are settled
  double decay = 0;              // of the prompt
  int64_t prompt = 0;            // its length; 0: the text began without one
};

State& own(kv::PolicyState& state) {
  return static_cast<State&>(state);
}

class PyramidPolicy : public kv::KvPolicy {
 public:
  explicit PyramidPolicy(const PyramidOptions& options)
      : options_(options), schedule_(preset(options.preset)) {
    if (options_.recent_ratio >= 0) {
      schedule_.recent_ratio = options_.recent_ratio;
      schedule_.least_recent = 0;
      schedule_.most_recent = kMostPrompt;
    }
    if (options_.keep > 0) {
      Schedule steepest = schedule_;
      steepest.decay = 0;
      const double floor = kept_share(steepest, kNominalPrompt, kNominalLayers);
      if (options_.keep < floor) {
        throw core::InvalidOption(
            "kv-policy pyramid: keep",
            fmt::format("{}", options_.keep),
            fmt::format("{:.3f} to 1 with the preset {} and recent-ratio {}, or 0 for its decay",
                        std::ceil(floor * 1000) / 1000,
                        options_.preset,
                        schedule_.recent_ratio));
      }
    }
  }

  std::string name() const override {
    return fmt::format("pyramid:preset={},keep={},recent-ratio={},sinks={}",
                       options_.preset,
                       options_.keep,
                       schedule_.recent_ratio,
                       options_.sinks);
  }
  kv::Needs needs() const override { return {.queries = true, .whole_prompt = true}; }
  std::unique_ptr<kv::PolicyState> new_state() const override { return std::make_unique<State>(); }
  bool evicts() const override { return true; }
  double least_share(int64_t prompt, int64_t num_slots) const override {
    Schedule steepest = schedule_;
    steepest.decay = options_.keep > 0 ? 0 : schedule_.decay;
    return kept_share(steepest, prompt, num_slots);
  }
  int64_t most_whole_prompt() const override { return kMostPrompt; }
  // W = 1 + R [11 §2.1]; R follows the text, slowly [11 §2.5 step 1].
  int64_t query_window(const kv::Place& place) const override {
    const bool first = place.tokens == 0 && place.in_prompt();
    return 1 + schedule_.recent(first ? place.turn_end : place.cached + 1);
  }

  std::optional<std::vector<int64_t>> narrow(kv::PolicyState& state,
                                             const kv::Place& place,
                                             kv::SlotView& view) const override {
    State& mine = own(state);
    const int64_t prompt = place.turn_end;
    if (mine.prompt == 0) {  // the first slot that rows can leave
      mine.prompt = prompt;
      mine.decay = options_.keep > 0
                       ? solve_decay(schedule_, options_.keep, prompt, view.num_slots())
                       : schedule_.decay;
    }
    if (view.slot() == view.num_slots() - 1) {
      // DEVIATION([11 §2.3 step 3]): after the last layer nothing is saved by dropping rows.
      return std::nullopt;
    }
    Schedule schedule = schedule_;
    schedule.decay = mine.decay;
    const int64_t window = 1 + schedule.recent(prompt);
    const int64_t context = view.length() - window;
    const int64_t kept = context_left(schedule, prompt, view.slot(), view.num_slots(), context);
    if (kept == context) {
      return std::nullopt;
    }
    return rows_to_keep(votes(view, window), view.length(), window, kept, options_.sinks);
  }

  // A block is compressed the moment it is there [11 §2.5 step 2]: so many rows until then, at
  // least.
  int64_t rows_before_cut(const kv::PolicyState& state, const kv::Place& place) const override {
    if (place.tokens == 0 && place.in_prompt()) {
      return std::numeric_limits<int64_t>::max();
    }
    const State& mine = static_cast<const State&>(state);
    // Layer 0 holds most tokens; all slots gain as many, so they reach a block together.
    const int64_t anchor = mine.anchors.empty() ? first_anchor() : mine.anchors.front();
    const int64_t newer = place.cached - schedule_.recent(place.cached) - anchor;
    return std::max<int64_t>(schedule_.block - newer, 1);
  }
  bool cuts(const kv::PolicyState& /*state*/, const kv::Place& /*place*/) const override {
    return true;
  }
  std::optional<kv::Columns> columns(kv::PolicyState& state,
                                     const kv::Place& place,
                                     kv::SlotView& view) const override {
    State& mine = own(state);
    const auto slot = static_cast<size_t>(view.slot());
    if (mine.anchors.size() <= slot) {
      mine.anchors.resize(static_cast<size_t>(view.num_slots()),
                          mine.prompt > 0 ? -1 : first_anchor());
    }
    int64_t& anchor = mine.anchors[slot];
    if (anchor < 0) {  // the prompt is settled
      anchor = view.length();
      return std::nullopt;
    }
    const int64_t recent = schedule_.recent(place.cached);
    if (view.length() - recent - anchor < schedule_.block) {
      return std::nullopt;
    }
    const int64_t window = 1 + recent;
    const int64_t end = view.length() - window;
    const int64_t begin = end - schedule_.block;
    const std::vector<float> scores = votes(view, window);
    std::vector<int32_t> block;
    for (int64_t rank = begin; rank < end; ++rank) {
      block.push_back(static_cast<int32_t>(rank));
    }
    std::stable_sort(block.begin(), block.end(), [&](int32_t a, int32_t b) {
      return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
    block.resize(static_cast<size_t>(block_left(mine, view)));
    std::sort(block.begin(), block.end());
    kv::Columns columns;
    for (int64_t rank = 0; rank < begin; ++rank) {
      columns.ranks.push_back(static_cast<int32_t>(rank));
    }
    columns.ranks.insert(columns.ranks.end(), block.begin(), block.end());
    for (int64_t rank = end; rank < view.length(); ++rank) {
      columns.ranks.push_back(static_cast<int32_t>(rank));
    }
    anchor = columns.kept() - recent;
    return columns;
  }

 private:
  // Of a text without a prompt: its sinks are settled. (A block begins with the last settled
  // token.)
  int64_t first_anchor() const { return options_.sinks + 1; }

  // s [11 §2.3 step 2 a] and [11 §2.3 step 2 b], without the constant factor: [length]
  std::vector<float> votes(kv::SlotView& view, int64_t window) const {
    const std::vector<float> by_head =
        view.recent_attention(window, vote_weights(schedule_, window));
    std::vector<float> sums(static_cast<size_t>(view.length()));
    for (size_t i = 0; i < by_head.size(); ++i) {
      // Of damaged keys, NaN: nothing, for an order with NaN in it is none.
      sums[i % sums.size()] += std::isnan(by_head[i]) ? 0 : by_head[i];
    }
    return sums;
  }

  // Tokens that stay of a block of an answer [11 §2.5 step 2].
  int64_t block_left(const State& state, const kv::SlotView& view) const {
    const auto block = static_cast<double>(schedule_.block);
    double share = 0;
    if (schedule_.answer_decay < 0) {
      // Our preset: what the layer keeps of such a prompt. Short ones are hardly cut, so their own
      // share would say little.
      const int64_t prompt = std::max<int64_t>(state.prompt, kNominalPrompt);
      Schedule schedule = schedule_;
      if (options_.keep > 0) {
        schedule.decay = solve_decay(schedule_, options_.keep, prompt, view.num_slots());
      }
      const auto lengths = layer_lengths(schedule, prompt, view.num_slots());
      share = static_cast<double>(lengths[static_cast<size_t>(view.slot())]) /
              static_cast<double>(prompt);
    } else {
      const double place = static_cast<double>(view.slot()) / static_cast<double>(view.num_slots());
      share = schedule_.answer_compress *
              ((1 - schedule_.answer_decay) * (std::cos(std::numbers::pi * place) + 1) / 2 +
               schedule_.answer_decay);
    }
    return std::max<int64_t>(static_cast<int64_t>(std::floor(block * share + 1e-9)), 1);
  }

  PyramidOptions options_;
  Schedule schedule_;
};

}  // namespace

void PyramidOptions::validate() const {
  adze::methods::pyramid_infer::preset(preset);
  if (keep < 0 || keep > 1 || std::isnan(keep)) {
    throw core::InvalidOption(
        "kv-policy pyramid: keep", fmt::format("{}", keep), "above 0, at most 1, or 0");
  }
  if (std::isnan(recent_ratio) || (recent_ratio < 0 && recent_ratio != -1) || recent_ratio > 0.5) {
    throw core::InvalidOption("kv-policy pyramid: recent-ratio",
                              fmt::format("{}", recent_ratio),
                              "0 to 0.5, or -1 for the preset's");
  }
  if (sinks < 0 || sinks > 1024) {
    throw core::InvalidOption("kv-policy pyramid: sinks", std::to_string(sinks), "0 to 1024");
  }
}

kv::KvPolicyPtr make_policy(const PyramidOptions& options) {
  options.validate();
  return std::make_shared<PyramidPolicy>(options);
}

kv::PolicyEntry policy_entry() {
  return kv::make_policy_entry<PyramidOptions>(
      "pyramid", "a prompt narrows from layer to layer while it is read", make_policy);
}

}  // namespace adze::methods::pyramid_infer
