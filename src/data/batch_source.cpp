#include "data/batch_source.h"

#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "core/rng.h"
#include "data/packing.h"

namespace adze::data {

int64_t TrainingSequence::rows() const {
  int64_t tokens = 0;
  for (const TokenRange& range : ranges) {
    tokens += range.count;
  }
  return tokens - 1;
}

TokenBatch read_batch(const TokenData& data, std::span<const TrainingSequence> sequences) {
  TokenBatch batch;
  batch.sequence_starts.push_back(0);
  std::vector<int32_t> tokens;
  for (const TrainingSequence& sequence : sequences) {
    const auto rows = static_cast<size_t>(sequence.rows());
    core::check(sequence.rows() >= 1 && sequence.ignored <= sequence.rows(), "rows of a sequence");
    tokens.resize(rows + 1);
    auto place = tokens.begin();
    for (const TokenRange& range : sequence.ranges) {
      data.read(range.first, {place, place + range.count});
      place += range.count;
    }
    batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end() - 1);
    batch.targets.insert(batch.targets.end(), static_cast<size_t>(sequence.ignored), -1);
    batch.targets.insert(batch.targets.end(), tokens.begin() + 1 + sequence.ignored, tokens.end());
    batch.sequence_starts.push_back(static_cast<int64_t>(batch.tokens.size()));
    batch.num_targets += sequence.targets();
  }
  return batch;
}

std::vector<std::span<const TrainingSequence>> micro_batches(
    std::span<const TrainingSequence> sequences, int64_t rows) {
  std::vector<std::span<const TrainingSequence>> parts;
  size_t first = 0;
  int64_t sum = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (i > first && sum + sequences[i].rows() > rows) {
      parts.push_back(sequences.subspan(first, i - first));
      first = i;
      sum = 0;
    }
    sum += sequences[i].rows();
  }
  if (first < sequences.size()) {
    parts.push_back(sequences.subspan(first));
  }
  return parts;
}

std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  const core::Rng rng(seed, stream);
  for (int64_t last = count - 1; last > 0; --last) {
    // The high half of a 64 x 64 bit product is uniform on [0, last] but for 2^-64 of the range.
    const auto draw = static_cast<unsigned __int128>(rng.at(static_cast<uint64_t>(last)));
    const auto other = static_cast<size_t>((draw * static_cast<uint64_t>(last + 1)) >> 64);
    std::swap(order[static_cast<size_t>(last)], order[other]);
  }
  return order;
}

std::vector<BatchSourceEntry>& batch_source_entries() {
  static std::vector<BatchSourceEntry> entries = {
      make_batch_source_entry<ConcatOptions>(
          "concat", "shuffled documents one behind another, cut at equal lengths", make_concat),
      make_batch_source_entry<PackOptions>(
          "pack", "whole documents into rows of equal length, best fit first", make_best_fit)};
  return entries;
}

std::unique_ptr<BatchSource> make_batch_source(std::string_view text,
                                               const TokenData& data,
                                               const BatchRequest& request) {
  const auto [entry, values] = core::parse_named("batches", text, batch_source_entries());
  return entry->make(data, request, values);
}

}  // namespace adze::data
