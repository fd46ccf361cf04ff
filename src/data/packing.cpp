#include "data/packing.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/check.h"
#include "core/error.h"

namespace adze::data {
namespace {

constexpr int64_t kLongest = int64_t{1} << 20;

// Streams of Rng: an epoch draws documents and pieces apart.
uint64_t stream_of(int64_t epoch, uint64_t purpose) {
  return static_cast<uint64_t>(epoch) * 4 + purpose;
}

void check_length(int64_t length, int64_t least, const BatchRequest& request) {
  if (request.step_tokens % length != 0) {
    throw core::UsageError(
        fmt::format("[batches] length: expected a divisor of the {} tokens of a step, got {}",
                    request.step_tokens,
                    length));
  }
  core::check(length >= least, "a length that validate() has seen");
}

class Concat : public BatchSource {
 public:
  Concat(const TokenData& data, const BatchRequest& request, const ConcatOptions& options)
      : data_(data), request_(request), options_(options) {
    check_length(options.length, 1, request);
    chunks_ = (data.num_tokens() - 1) / options.length;
    per_step_ = request.step_tokens / options.length;
    if (chunks_ < per_step_) {
      throw core::error("batches",
                        "expected data for a step of {} sequences of {} tokens, got {} tokens",
                        per_step_,
                        options.length,
                        data.num_tokens());
    }
  }

  std::vector<TrainingSequence> plan(int64_t step) override {
    const int64_t steps = chunks_ / per_step_;  // what is left over waits for the next epoch
    enter(step / steps);
    std::vector<TrainingSequence> sequences;
    for (int64_t i = 0; i < per_step_; ++i) {
      add_chunk(chunk_order_[static_cast<size_t>(step % steps * per_step_ + i)], sequences);
    }
    return sequences;
  }

  int64_t longest() const override { return options_.length; }
  nlohmann::ordered_json describe() const override {
    return {{"sequences", chunks_}, {"steps_per_epoch", chunks_ / per_step_}};
  }

 private:
  void enter(int64_t epoch) {
    if (epoch == epoch_) {
      return;
    }
    epoch_ = epoch;
    chunk_order_ = shuffled(chunks_, request_.seed, stream_of(epoch, 0));
    document_order_ = shuffled(data_.num_documents(), request_.seed, stream_of(epoch, 1));
    stream_starts_.assign(1, 0);
    for (const int64_t document : document_order_) {
      stream_starts_.push_back(stream_starts_.back() + data_.length(document));
    }
  }

  // Tokens [begin, begin + length + 1) of the stream.
  void add_chunk(int64_t chunk, std::vector<TrainingSequence>& sequences) const {
    int64_t place = chunk * options_.length;
    const int64_t end = place + options_.length + 1;
    auto document =
        static_cast<size_t>(std::upper_bound(stream_starts_.begin(), stream_starts_.end(), place) -
                            stream_starts_.begin() - 1);
    TrainingSequence joined;
    for (; place < end; ++document) {
      const int64_t offset = place - stream_starts_[document];
      const int64_t count = std::min(stream_starts_[document + 1], end) - place;
      place += count;
      if (count == 0) {
        continue;
      }
      const TokenRange range{data_.start(document_order_[document]) + offset, count};
      if (!options_.mask) {
        joined.ranges.push_back(range);
      } else if (count > 1) {  // a single token has nothing to predict
        sequences.push_back({{range}, 0});
      }
    }
    if (!options_.mask) {
      sequences.push_back(std::move(joined));
    }
  }

  const TokenData& data_;
  BatchRequest request_;
  ConcatOptions options_;
  int64_t chunks_ = 0;
  int64_t per_step_ = 0;
  int64_t epoch_ = -1;
  std::vector<int64_t> chunk_order_;
  std::vector<int64_t> document_order_;
  std::vector<int64_t> stream_starts_;  // [documents + 1], in the order of the stream
};

class BestFit : public BatchSource {
 public:
  BestFit(const TokenData& data, const BatchRequest& request, const PackOptions& options)
      : request_(request), options_(options) {
    check_length(options.length, 2, request);
    fill_bins(parts_of(data));
    per_step_ = request.step_tokens / options.length;
    if (static_cast<int64_t>(bins_.size()) < per_step_) {
      throw core::error("batches",
                        "expected data for a step of {} packs of {} tokens, got {} packs",
                        per_step_,
                        options.length,
                        bins_.size());
    }
  }

  std::vector<TrainingSequence> plan(int64_t step) override {
    const int64_t steps = static_cast<int64_t>(bins_.size()) / per_step_;
    if (const int64_t epoch = step / steps; epoch != epoch_) {
      epoch_ = epoch;
      order_ = shuffled(static_cast<int64_t>(bins_.size()), request_.seed, stream_of(epoch, 2));
    }
    std::vector<TrainingSequence> sequences;
    for (int64_t i = 0; i < per_step_; ++i) {
      const auto bin =
          static_cast<size_t>(order_[static_cast<size_t>(step % steps * per_step_ + i)]);
      for (const TokenRange& part : bins_[bin]) {
        sequences.push_back({{part}, 0});
      }
    }
    return sequences;
  }

  int64_t longest() const override { return options_.length - 1; }
  nlohmann::ordered_json describe() const override {
    return {{"packs", bins_.size()},
            {"steps_per_epoch", static_cast<int64_t>(bins_.size()) / per_step_}};
  }

 private:
  // Documents cut at the length; parts of one token have nothing to predict.
  std::vector<TokenRange> parts_of(const TokenData& data) const {
    std::vector<TokenRange> parts;
    for (int64_t document = 0; document < data.num_documents(); ++document) {
      for (int64_t offset = 0; offset < data.length(document); offset += options_.length) {
        const int64_t count = std::min(options_.length, data.length(document) - offset);
        if (count > 1) {
          parts.push_back({data.start(document) + offset, count});
        }
      }
    }
    std::stable_sort(parts.begin(), parts.end(), [](const TokenRange& a, const TokenRange& b) {
      return a.count > b.count;
    });
    return parts;
  }

  void fill_bins(const std::vector<TokenRange>& parts) {
    std::map<int64_t, std::vector<size_t>> with_room;  // room -> bins, the newest last
    for (const TokenRange& part : parts) {
      auto best = with_room.lower_bound(part.count);
      size_t bin = bins_.size();
      int64_t room = options_.length;
      if (best == with_room.end()) {
        bins_.emplace_back();
      } else {
        bin = best->second.back();
        room = best->first;
        best->second.pop_back();
        if (best->second.empty()) {
          with_room.erase(best);
        }
      }
      bins_[bin].push_back(part);
      if (room > part.count) {
        with_room[room - part.count].push_back(bin);
      }
    }
  }

  BatchRequest request_;
  PackOptions options_;
  std::vector<std::vector<TokenRange>> bins_;
  int64_t per_step_ = 0;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;
};

}  // namespace

void ConcatOptions::validate() const {
  if (length < 1 || length > kLongest) {
    throw core::InvalidOption("batches concat: length", std::to_string(length), "1 to 1048576");
  }
}

void PackOptions::validate() const {
  if (length < 2 || length > kLongest) {
    throw core::InvalidOption("batches pack: length", std::to_string(length), "2 to 1048576");
  }
}

std::unique_ptr<BatchSource> make_concat(const TokenData& data,
                                         const BatchRequest& request,
                                         const ConcatOptions& options) {
  return std::make_unique<Concat>(data, request, options);
}

std::unique_ptr<BatchSource> make_best_fit(const TokenData& data,
                                           const BatchRequest& request,
                                           const PackOptions& options) {
  return std::make_unique<BestFit>(data, request, options);
}

}  // namespace adze::data
