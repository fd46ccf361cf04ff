#include "eval/cache_lab.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "infer/append_tokens.h"
#include "kv/cache_registry.h"
#include "model/forward.h"
#include "tensor/operations.h"

namespace adze::eval {
namespace {

constexpr int64_t kTurn = 32;
constexpr int64_t kPrefillChunk = 256;
constexpr int64_t kDecoded = 16;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Sums {
  double loss = 0;
  int64_t scored = 0;
  int64_t agreed = 0;
  double kl = 0;
  int64_t compared = 0;
  int64_t found = 0;
  int64_t hidden = 0;
  double bytes = 0;
  double filled = 0;  // tokens and seconds
  double fill_seconds = 0;
  double decode_seconds = 0;
  int64_t decoded = 0;
};

struct Cell {
  CacheLabRow row;
  kv::KvStorePtr store;
  kv::KvPolicyPtr policy;
  Sums sums;
};

// log(sum exp(logits)) of one row.
double log_sum_exp(const float* logits, int64_t count) {
  const float largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += static_cast<double>(std::exp(logits[i] - largest));
  }
  return static_cast<double>(largest) + std::log(sum);
}

// KL of a row's distribution from another's.
double kl_divergence(
    const float* full, double full_sum, const float* other, double other_sum, int64_t count) {
  const auto shift = static_cast<float>(full_sum);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double difference = static_cast<double>(full[i]) - static_cast<double>(other[i]);
    sum += static_cast<double>(std::exp(full[i] - shift)) * difference;
  }
  return sum - full_sum + other_sum;
}

class Lab {
 public:
  Lab(const infer::LoadedModel& loaded,
      std::span<const int32_t> text,
      const CacheLabOptions& options,
      const CacheLabProgress& on_progress)
      : loaded_(loaded),
        model_(*loaded.model),
        text_(text),
        options_(options),
        on_progress_(on_progress),
        layout_(kv::make_cache_layout(model_.spec)),
        rotation_(model_.spec, options.context + kDecoded),
        pool_(std::numeric_limits<int64_t>::max()) {
    make_cells();
  }

  std::vector<CacheLabRow> run() {
    int64_t live = 0;
    for (const Cell& cell : cells_) {
      live += cell.row.skipped.empty() ? 1 : 0;
    }
    const bool windows = measures("perplexity") || measures("agreement") || measures("speed");
    steps_ = options_.chunks * (windows ? live + 1 : 0) +
             (measures("needle") ? options_.chunks * live : 0);
    for (int64_t window = 0; windows && window < options_.chunks; ++window) {
      const auto part = text_.subspan(static_cast<size_t>(window * options_.context),
                                      static_cast<size_t>(options_.context));
      std::vector<int32_t> tokens(part.begin(), part.end());
      tokens.front() = infer::begin_of_text(loaded_.tokenizer).value_or(tokens.front());
      read_window(tokens);
    }
    if (measures("needle")) {
      hide_needles();
    }
    std::vector<CacheLabRow> rows;
    for (Cell& cell : cells_) {
      rows.push_back(summary(cell));
    }
    mark_frontier(rows);
    return rows;
  }

 private:
  bool measures(std::string_view name) const {
    return std::find(options_.measures.begin(), options_.measures.end(), name) !=
           options_.measures.end();
  }

  void make_cells() {
    for (const std::string& policy_name : options_.policies) {
      const bool full = policy_name.substr(0, policy_name.find(':')) == "full";
      kv::make_policy(full ? policy_name : with_share(policy_name, 1));  // throws: unknown
      for (const std::string& store_name : options_.stores) {
        const kv::KvStorePtr store = kv::make_store(store_name, model_.spec);
        bool full_measured = false;
        for (const double budget : options_.budgets) {
          Cell cell;
          cell.row.policy = policy_name;
          cell.row.store = store_name;
          cell.row.budget = budget;
          cell.store = store;
          if (full) {
            if (budget < 1) {
              cell.row.skipped = "full keeps every token";
            } else if (std::exchange(full_measured, true)) {
              continue;
            }
            cell.policy = kv::make_policy(policy_name);
          } else {
            set_policy(cell);
          }
          cells_.push_back(std::move(cell));
        }
      }
    }
  }

  static std::string with_share(const std::string& policy, double share) {
    return fmt::format(
        "{}{}keep={}", policy, policy.find(':') == std::string::npos ? ":" : ",", share);
  }

  // The policy with the cell's budget, or why there is none.
  void set_policy(Cell& cell) const {
    const CacheLabRow& row = cell.row;
    try {
      cell.policy = kv::make_policy(with_share(row.policy, row.budget));
    } catch (const core::InvalidOption& error) {
      cell.row.skipped = error.what();
      return;
    }
    const double filled = row.budget * static_cast<double>(options_.context / 2);
    const int64_t least = cell.policy->least_cached();
    if (filled < static_cast<double>(least)) {
      cell.row.skipped = fmt::format("keeps at least {} tokens, the budget of {} is {:.0f}",
                                     least,
                                     options_.context / 2,
                                     filled);
    }
    const double wanted = row.budget * static_cast<double>(options_.context);
    const int64_t most = cell.policy->most_cached(options_.context);
    const double least_share = cell.policy->least_share(options_.context / 2, layout_->num_slots);
    if (static_cast<double>(most) < std::floor(wanted)) {
      cell.row.skipped = fmt::format(
          "holds at most {} tokens unless its own limit says more, the budget of {} is {:.0f}",
          most,
          options_.context,
          wanted);
    } else if (row.budget < least_share) {
      cell.row.skipped = fmt::format(
          "keeps at least {:.3f} of a prompt of {} tokens", least_share, options_.context / 2);
    }
    cell.row.reapplied = cell.policy->prompt_only() && cell.policy->evicts();
  }

  kv::Sequence new_sequence(const kv::KvStorePtr& store, const kv::KvPolicyPtr& policy) {
    return {pool_, store, policy, layout_};
  }

  // Appends a turn; the logits of its rows [rows, vocab_size] where asked for.
  at::Tensor turn(kv::Sequence& sequence, std::span<const int32_t> tokens, bool wants_logits) {
    at::Tensor result;
    const auto rows = static_cast<int64_t>(tokens.size());
    if (wants_logits) {
      result = tensor::empty_floats(rows, model_.spec.vocab_size);
    }
    sequence.begin_turn(rows, 0);
    infer::append_tokens(model_,
                         rotation_,
                         sequence,
                         tokens,
                         wants_logits ? kTurn : kPrefillChunk,
                         [&](int64_t first, const at::Tensor& hidden) {
                           if (!wants_logits) {
                             return;
                           }
                           const at::Tensor logits = model::logits(model_, hidden);
                           std::copy_n(
                               logits.const_data_ptr<float>(),
                               logits.numel(),
                               result.mutable_data_ptr<float>() + first * model_.spec.vocab_size);
                         });
    return result;
  }

  void read_window(std::span<const int32_t> window) {
    const auto half = static_cast<size_t>(options_.context / 2);
    const bool scores = measures("perplexity") || measures("agreement");
    kv::Sequence full = new_sequence(kv::make_store("f16", model_.spec), kv::make_policy("full"));
    if (scores) {
      turn(full, window.first(half), false);
    }
    progress("the full cache");
    std::vector<std::unique_ptr<kv::Sequence>> sequences;
    for (Cell& cell : cells_) {
      if (!cell.row.skipped.empty()) {
        sequences.push_back(nullptr);
        continue;
      }
      sequences.push_back(std::make_unique<kv::Sequence>(new_sequence(cell.store, cell.policy)));
      const auto start = Clock::now();
      turn(*sequences.back(), window.first(half), false);
      cell.sums.fill_seconds += seconds_since(start);
      cell.sums.filled += static_cast<double>(half);
    }
    for (size_t first = half; first < window.size(); first += kTurn) {
      const auto tokens = window.subspan(first, std::min<size_t>(kTurn, window.size() - first));
      const at::Tensor expected = scores ? turn(full, tokens, true) : at::Tensor();
      for (size_t i = 0; i < cells_.size(); ++i) {
        if (sequences[i]) {
          const at::Tensor found = turn(*sequences[i], tokens, scores);
          if (scores) {
            compare(cells_[i], window, first, expected, found);
          }
        }
      }
    }
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (sequences[i]) {
        finish_window(cells_[i], *sequences[i], window);
        sequences[i].reset();
        progress(cells_[i].row.policy + ", " + cells_[i].row.store);
      }
    }
  }

  // Rows [first, ...) of a window: losses of the tokens that follow them, and the full cache's
  // view.
  void compare(Cell& cell,
               std::span<const int32_t> window,
               size_t first,
               const at::Tensor& expected,
               const at::Tensor& found) {
    const int64_t rows = found.size(0);
    const int64_t vocabulary = found.size(1);
    std::vector<double> losses(static_cast<size_t>(rows), 0.0);
    std::vector<double> divergences(static_cast<size_t>(rows), 0.0);
    std::vector<uint8_t> agreed(static_cast<size_t>(rows), 0);
    const auto* full = expected.const_data_ptr<float>();
    const auto* other = found.const_data_ptr<float>();
    core::parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const float* left = full + row * vocabulary;
        const float* right = other + row * vocabulary;
        const double sum = log_sum_exp(right, vocabulary);
        const size_t next = first + static_cast<size_t>(row) + 1;
        if (next < window.size()) {
          losses[static_cast<size_t>(row)] = sum - static_cast<double>(right[window[next]]);
        }
        if (measures("agreement")) {
          divergences[static_cast<size_t>(row)] =
              kl_divergence(left, log_sum_exp(left, vocabulary), right, sum, vocabulary);
          agreed[static_cast<size_t>(row)] = std::max_element(left, left + vocabulary) - left ==
                                             std::max_element(right, right + vocabulary) - right;
        }
      }
    });
    for (size_t row = 0; row < losses.size(); ++row) {
      const bool scored = first + row + 1 < window.size();
      cell.sums.loss += losses[row];
      cell.sums.scored += scored ? 1 : 0;
      cell.sums.kl += divergences[row];
      cell.sums.agreed += agreed[row];
      ++cell.sums.compared;
    }
  }

  // Bytes at the window's end, and the speed of single tokens from there.
  void finish_window(Cell& cell, kv::Sequence& sequence, std::span<const int32_t> window) {
    cell.sums.bytes +=
        static_cast<double>(sequence.bytes()) / static_cast<double>(sequence.num_tokens());
    if (!measures("speed")) {
      return;
    }
    const auto start = Clock::now();
    for (int64_t i = 0; i < kDecoded; ++i) {
      infer::append_tokens(
          model_,
          rotation_,
          sequence,
          window.subspan(static_cast<size_t>(i), 1),
          1,
          [&](int64_t, const at::Tensor& hidden) { model::logits(model_, hidden); });
    }
    cell.sums.decode_seconds += seconds_since(start);
    cell.sums.decoded += kDecoded;
  }

  // A sentence with a number among the text, and at its end the sentence again without the number.
  void hide_needles() {
    static constexpr std::array kCities = {"Lisbon", "Oslo", "Cairo", "Lima", "Kyoto", "Boston"};
    core::Rng rng(1);
    for (int64_t window = 0; window < options_.chunks; ++window) {
      const std::string sentence = fmt::format(
          " The secret number of {} is", kCities[static_cast<size_t>(window) % kCities.size()]);
      const std::string number = fmt::format(" {}", 1000 + rng.next_uint64() % 9000);
      const auto encode = [this](const std::string& text) {
        return loaded_.tokenizer.encode(text, text::SpecialTokens::kPlain);
      };
      const std::vector<int32_t> needle = encode("\n" + sentence + number + ".\n");
      const std::vector<int32_t> question = encode("\n" + sentence);
      const std::vector<int32_t> answer = encode(number);
      std::vector<int32_t> prompt;
      infer::add_begin_of_text(loaded_.tokenizer, prompt);
      const auto room = static_cast<size_t>(options_.context) - prompt.size() - needle.size() -
                        question.size() - answer.size();
      const auto hay = text_.subspan(static_cast<size_t>(window * options_.context), room);
      // Depths from 1/16 to 15/16 for eight windows.
      const size_t depth =
          room * static_cast<size_t>(2 * window + 1) / static_cast<size_t>(2 * options_.chunks);
      prompt.insert(prompt.end(), hay.begin(), hay.begin() + static_cast<std::ptrdiff_t>(depth));
      prompt.insert(prompt.end(), needle.begin(), needle.end());
      prompt.insert(prompt.end(), hay.begin() + static_cast<std::ptrdiff_t>(depth), hay.end());
      prompt.insert(prompt.end(), question.begin(), question.end());
      for (Cell& cell : cells_) {
        if (cell.row.skipped.empty()) {
          cell.sums.found += answers(cell, prompt, answer) ? 1 : 0;
          ++cell.sums.hidden;
          progress("a needle, " + cell.row.policy + ", " + cell.row.store);
        }
      }
    }
  }

  // Whether the likeliest tokens after the prompt are the answer.
  bool answers(const Cell& cell, std::span<const int32_t> prompt, std::span<const int32_t> answer) {
    kv::Sequence sequence = new_sequence(cell.store, cell.policy);
    sequence.begin_turn(static_cast<int64_t>(prompt.size()), static_cast<int64_t>(answer.size()));
    at::Tensor last;
    const auto keep_last = [&](int64_t, const at::Tensor& hidden) {
      last = hidden.narrow(0, hidden.size(0) - 1, 1);
    };
    infer::append_tokens(model_, rotation_, sequence, prompt, kPrefillChunk, keep_last);
    for (size_t i = 0; i < answer.size(); ++i) {
      const at::Tensor logits = model::logits(model_, last);
      const auto* values = logits.const_data_ptr<float>();
      if (std::max_element(values, values + logits.size(1)) - values != answer[i]) {
        return false;
      }
      infer::append_tokens(model_, rotation_, sequence, answer.subspan(i, 1), 1, keep_last);
    }
    return true;
  }

  CacheLabRow summary(const Cell& cell) const {
    CacheLabRow row = cell.row;
    const Sums& sums = cell.sums;
    if (!row.skipped.empty()) {
      return row;
    }
    if (measures("perplexity")) {
      row.perplexity = std::exp(sums.loss / static_cast<double>(sums.scored));
    }
    if (measures("agreement")) {
      row.top1_agreement = static_cast<double>(sums.agreed) / static_cast<double>(sums.compared);
      row.kl = sums.kl / static_cast<double>(sums.compared);
    }
    if (measures("needle")) {
      row.needle_recall = static_cast<double>(sums.found) / static_cast<double>(sums.hidden);
    }
    if (sums.filled > 0) {
      row.cache_bytes_per_token = sums.bytes / static_cast<double>(options_.chunks);
    }
    if (measures("speed")) {
      row.prefill_tokens_per_second = sums.filled / sums.fill_seconds;
      row.decode_tokens_per_second = static_cast<double>(sums.decoded) / sums.decode_seconds;
    }
    return row;
  }

  static void mark_frontier(std::vector<CacheLabRow>& rows) {
    for (CacheLabRow& row : rows) {
      row.pareto = row.perplexity && row.cache_bytes_per_token &&
                   std::none_of(rows.begin(), rows.end(), [&](const CacheLabRow& other) {
                     return other.perplexity &&
                            *other.cache_bytes_per_token <= *row.cache_bytes_per_token &&
                            *other.perplexity <= *row.perplexity &&
                            (*other.cache_bytes_per_token < *row.cache_bytes_per_token ||
                             *other.perplexity < *row.perplexity);
                   });
    }
  }

  void progress(const std::string& what) {
    if (on_progress_) {
      on_progress_(++done_, steps_, what);
    }
  }

  const infer::LoadedModel& loaded_;
  const model::Model& model_;
  std::span<const int32_t> text_;
  const CacheLabOptions& options_;
  const CacheLabProgress& on_progress_;
  kv::CacheLayoutPtr layout_;
  kv::Rotation rotation_;
  kv::PagePool pool_;
  std::vector<Cell> cells_;
  int64_t done_ = 0;
  int64_t steps_ = 0;
};

}  // namespace

void CacheLabOptions::validate() const {
  if (policies.empty() || stores.empty() || budgets.empty()) {
    throw core::UsageError("[cache-lab] expected at least one policy, store and budget");
  }
  for (const double budget : budgets) {
    if (!(budget > 0 && budget <= 1)) {
      throw core::InvalidOption("budgets", fmt::format("{}", budget), "above 0, at most 1");
    }
  }
  static const std::vector<std::string> kMeasures = {"perplexity", "agreement", "needle", "speed"};
  for (const std::string& measure : measures) {
    if (std::find(kMeasures.begin(), kMeasures.end(), measure) == kMeasures.end()) {
      throw core::InvalidOption("measures", measure, fmt::format("{}", fmt::join(kMeasures, ", ")));
    }
  }
  if (context < 128 || context % 64 != 0) {
    throw core::InvalidOption("context", std::to_string(context), "128 or more, a multiple of 64");
  }
  if (chunks < 1) {
    throw core::InvalidOption("chunks", std::to_string(chunks), "1 or more");
  }
}

std::vector<CacheLabRow> cache_lab(const infer::LoadedModel& loaded,
                                   std::span<const int32_t> text,
                                   const CacheLabOptions& options,
                                   const CacheLabProgress& on_progress) {
  options.validate();
  const int64_t trained = loaded.model->spec.context_length;
  if (options.context > trained) {
    throw core::InvalidOption(
        "context", std::to_string(options.context), fmt::format("128 to {}", trained));
  }
  if (static_cast<int64_t>(text.size()) < options.chunks * options.context) {
    throw core::error("cache-lab",
                      "expected a text of at least {} tokens (chunks * context), got {}",
                      options.chunks * options.context,
                      text.size());
  }
  return Lab(loaded, text, options, on_progress).run();
}

}  // namespace adze::eval
