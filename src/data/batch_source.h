#pragma once
// What a training step reads. A source plans whole steps of the run from token counts alone; ranks
// and micro-batches take slices of a plan. A plan depends on (source, seed, step) and on nothing
// else, so a run resumes by its step number, on any number of workers.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/named_options.h"
#include "data/token_data.h"

namespace adze::data {

struct TokenRange {
  int64_t first;  // place among all tokens of the data
  int64_t count;
};

// Rows that attend to each other. The n + 1 tokens of its ranges, one behind another, are n rows:
// row i reads token i and predicts token i + 1.
struct TrainingSequence {
  std::vector<TokenRange> ranges;
  int64_t ignored = 0;  // rows at the front without a loss: another sequence has them

  int64_t rows() const;
  int64_t targets() const { return rows() - ignored; }
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // The sequences of a step, from 0 on, without end: where the data are used up they are read again
  // in another order. Not for concurrent calls.
  virtual std::vector<TrainingSequence> plan(int64_t step) = 0;
  virtual int64_t longest() const = 0;  // rows of the longest sequence that any step may have
  virtual nlohmann::ordered_json describe() const { return nlohmann::ordered_json::object(); }
};

struct BatchRequest {
  int64_t step_tokens = 0;  // rows of a step
  int64_t steps = 0;        // of the run
  uint64_t seed = 0;
};

// Rows of sequences one behind another, ready for a forward pass.
struct TokenBatch {
  std::vector<int32_t> tokens;           // [rows]
  std::vector<int32_t> targets;          // [rows]; -1: no loss
  std::vector<int64_t> sequence_starts;  // [sequences + 1]
  int64_t num_targets = 0;
};
TokenBatch read_batch(const TokenData& data, std::span<const TrainingSequence> sequences);

// Cut into parts of at most `rows` rows, in order; a longer sequence is a part of its own.
std::vector<std::span<const TrainingSequence>> micro_batches(
    std::span<const TrainingSequence> sequences, int64_t rows);

struct BatchSourceEntry {
  std::string name;
  std::string summary;
  nlohmann::json defaults;                  // every key with its default
  std::map<std::string, std::string> help;  // of every key
  std::function<std::unique_ptr<BatchSource>(
      const TokenData& data, const BatchRequest& request, const nlohmann::json& options)>
      make;
};

template <class Options>
BatchSourceEntry make_batch_source_entry(std::string name,
                                         std::string summary,
                                         std::unique_ptr<BatchSource> (*make)(const TokenData&,
                                                                              const BatchRequest&,
                                                                              const Options&)) {
  return {.name = std::move(name),
          .summary = std::move(summary),
          .defaults = core::option_defaults<Options>(),
          .help = core::option_help<Options>(),
          .make = [make](const TokenData& data,
                         const BatchRequest& request,
                         const nlohmann::json& values) {
            return make(data, request, core::read_options<Options>(values));
          }};
}

// concat and pack; methods add theirs in methods/register_methods.cpp, before anything is looked
// up.
std::vector<BatchSourceEntry>& batch_source_entries();
// text: "concat:length=512,mask=true". The data must outlive the source. Throws core::UsageError:
// unknown name or key, a value out of range.
std::unique_ptr<BatchSource> make_batch_source(std::string_view text,
                                               const TokenData& data,
                                               const BatchRequest& request);

// A permutation of [0, count), the same wherever it is made.
std::vector<int64_t> shuffled(int64_t count, uint64_t seed, uint64_t stream);

}  // namespace adze::data
