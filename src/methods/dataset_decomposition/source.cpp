#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"

namespace adze::methods::dataset_decomposition {
namespace {

struct Stretch {
  int64_t first;  // place among all tokens
  int64_t tokens;
  int64_t ignored;
};

// Shares of buckets: "natural", "equal" or "3/6/10".
std::vector<double> mixture_shares(const std::string& mixture,
                                   const std::vector<std::vector<Stretch>>& buckets,
                                   int64_t shortest) {
  std::vector<double> shares(buckets.size(), 1);
  if (mixture == "natural") {
    for (size_t i = 0; i < buckets.size(); ++i) {
      shares[i] = static_cast<double>(buckets[i].size()) * static_cast<double>(shortest << i);
    }
    return shares;
  }
  if (mixture == "equal") {
    return shares;
  }
  const char* place = mixture.data();
  const char* end = place + mixture.size();
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto [stop, code] = std::from_chars(place, end, shares[i]);
    const bool last = i + 1 == shares.size();
    if (code != std::errc() || !(shares[i] >= 0 && shares[i] <= 1e15) ||
        (last ? stop != end : stop == end || *stop != '/')) {
      throw core::InvalidOption(
          "batches dataset-decomposition: mixture",
          mixture,
          fmt::format("natural, equal or {} numbers with / between", shares.size()));
    }
    place = stop + (last ? 0 : 1);
  }
  return shares;
}

// `steps` by shares, in whole numbers: largest remainders get what is left over.
std::vector<int64_t> apportion(const std::vector<double>& shares, int64_t steps) {
  const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<int64_t> counts;
  std::vector<std::pair<double, size_t>> remainders;
  int64_t left = steps;
  for (size_t i = 0; i < shares.size(); ++i) {
    const double exact = shares[i] / all * static_cast<double>(steps);
    counts.push_back(static_cast<int64_t>(exact));
    remainders.emplace_back(static_cast<double>(counts.back()) - exact, i);  // most first
    left -= counts.back();
  }
  std::sort(remainders.begin(), remainders.end());
  for (size_t i = 0; left > 0; i = (i + 1) % remainders.size()) {
    if (shares[remainders[i].second] > 0) {
      ++counts[remainders[i].second];
      --left;
    }
  }
  return counts;
}

class Source : public data::BatchSource {
 public:
  Source(const data::TokenData& data,
         const data::BatchRequest& request,
         const SourceOptions& options)
      : request_(request), options_(options) {
    if (request.step_tokens % options.longest != 0) {
      throw core::UsageError(
          fmt::format("[batches] longest: expected a divisor of the {} tokens of a step, got {}",
                      request.step_tokens,
                      options.longest));
    }
    fill_buckets(data);
    const auto shares = mixture_shares(options.mixture, buckets_, options.shortest);
    check_shares(shares);
    batches_ = apportion(shares, request.steps);
    plan_ = plan_buckets(batches_,
                         curriculum_odds(options.curriculum, static_cast<int64_t>(buckets_.size())),
                         options.cycles,
                         request.seed);
    std::vector<int64_t> seen(buckets_.size());
    for (const uint8_t bucket : plan_) {
      ordinals_.push_back(seen[bucket]++);
    }
    orders_.resize(buckets_.size());
  }

  // The whole plan is fixed beforehand; a longer run goes through it again.
  std::vector<data::TrainingSequence> plan(int64_t step) override {
    const auto place = static_cast<size_t>(step % request_.steps);
    const uint8_t bucket = plan_[place];
    const int64_t batch = ordinals_[place] + step / request_.steps * batches_[bucket];
    const int64_t per_step = request_.step_tokens / (options_.shortest << bucket);
    std::vector<data::TrainingSequence> sequences;
    for (int64_t i = batch * per_step; i < (batch + 1) * per_step; ++i) {
      const Stretch& stretch = sequence(bucket, i);
      sequences.push_back({{{stretch.first, stretch.tokens}}, stretch.ignored});
    }
    return sequences;
  }

  int64_t longest() const override { return options_.longest; }

  nlohmann::ordered_json describe() const override {
    auto buckets = nlohmann::ordered_json::array();
    for (size_t i = 0; i < buckets_.size(); ++i) {
      buckets.push_back({{"length", options_.shortest << i},
                         {"sequences", buckets_[i].size()},
                         {"steps", batches_[i]}});
    }
    return {{"buckets", buckets}};
  }

 private:
  void fill_buckets(const data::TokenData& data) {
    const DecompositionOptions decomposition = options_.decomposition();
    const int64_t least = decomposition.smallest_bucket();
    buckets_.resize(static_cast<size_t>(decomposition.largest_bucket() - least + 1));
    for (int64_t document = 0; document < data.num_documents(); ++document) {
      for (const Piece& piece : decompose(data.length(document),
                                          decomposition,
                                          request_.seed,
                                          static_cast<uint64_t>(document))) {
        buckets_[static_cast<size_t>(piece.bucket - least)].push_back(
            {data.start(document) + piece.offset, piece.tokens, piece.ignored});
      }
    }
  }

  void check_shares(const std::vector<double>& shares) const {
    double all = 0;
    for (size_t i = 0; i < shares.size(); ++i) {
      all += shares[i];
      if (shares[i] > 0 && buckets_[i].empty()) {
        throw core::error("batches",
                          "mixture: expected documents for sequences of {} rows, got none",
                          options_.shortest << i);
      }
    }
    if (all == 0) {
      throw core::error(
          "batches", "expected documents of at least {} tokens, got none", options_.shortest + 1);
    }
  }

  // The i-th sequence that a bucket gives: each pass over it is a permutation of its own, so all
  // are used before any is used again.
  const Stretch& sequence(uint8_t bucket, int64_t i) {
    const auto count = static_cast<int64_t>(buckets_[bucket].size());
    Order& order = orders_[bucket];
    if (order.pass != i / count) {
      order.pass = i / count;
      order.permutation = data::shuffled(
          count, request_.seed, (static_cast<uint64_t>(order.pass) << 8) + bucket + 0x44440000);
    }
    return buckets_[bucket][static_cast<size_t>(order.permutation[static_cast<size_t>(i % count)])];
  }

  struct Order {
    int64_t pass = -1;
    std::vector<int64_t> permutation;
  };

  data::BatchRequest request_;
  SourceOptions options_;
  std::vector<std::vector<Stretch>> buckets_;  // the shortest first
  std::vector<int64_t> batches_;               // of each bucket in the run
  std::vector<uint8_t> plan_;                  // bucket of each step
  std::vector<int64_t> ordinals_;              // how many steps before had the same bucket
  std::vector<Order> orders_;
};

}  // namespace

DecompositionOptions SourceOptions::decomposition() const {
  return {.shortest = shortest, .longest = longest, .tail = tail, .overlong = overlong};
}

void SourceOptions::validate() const {
  decomposition().validate("batches dataset-decomposition");
  if (cycles < 1 || cycles > 100'000) {
    throw core::InvalidOption(
        "batches dataset-decomposition: cycles", std::to_string(cycles), "1 to 100000");
  }
  curriculum_odds(curriculum, 1);
}

std::unique_ptr<data::BatchSource> make_source(const data::TokenData& data,
                                               const data::BatchRequest& request,
                                               const SourceOptions& options) {
  return std::make_unique<Source>(data, request, options);
}

data::BatchSourceEntry batch_source_entry() {
  return data::make_batch_source_entry<SourceOptions>(
      "dataset-decomposition",
      "documents cut into powers of two, one length a step, lengths by a curriculum",
      make_source);
}

}  // namespace adze::methods::dataset_decomposition
