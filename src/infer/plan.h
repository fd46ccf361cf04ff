#pragma once
// What a model will take and give on this machine, from its files' headers alone: nothing is
// loaded.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/machine_peaks/machine_peaks.h"
#include "model/checkpoint.h"

namespace adze::infer {

struct PlanRequest {
  int64_t memory_bytes = 0;
  int64_t context = 0;    // tokens of each text
  int64_t sequences = 1;  // texts at once
};

struct PlanRow {
  std::string store;
  std::string policy;
  int64_t bytes = 0;            // cache of all texts at their longest
  int64_t cached_tokens = 0;    // of a text, at most
  bool fits = false;            // beside the weights and the program
  int64_t longest_context = 0;  // tokens of each text that would fit; the model's own at most,
                                // -1: no limit (the policy bounds the cache)
  // At the longest text, a text at a time: what the machine's read bandwidth allows.
  double decode_tokens_per_second = 0;
};

struct Plan {
  int64_t weight_bytes = 0;   // resident, as packed
  int64_t program_bytes = 0;  // libraries, tables and rows in flight
  std::vector<PlanRow> rows;  // every registered store with every registered policy
  size_t advised = 0;         // into rows: the first that fits, whole texts in f16 before others
  // Of an empty cache, what the multiply-adds allow: in f32, or four times as many in int8.
  double prefill_tokens_per_second = 0;
};

Plan make_plan(const model::Checkpoint& checkpoint,
               const PlanRequest& request,
               const kernels::MachinePeaks& peaks);

}  // namespace adze::infer
