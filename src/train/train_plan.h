#pragma once
// What training a model takes, from its sizes alone: memory, work, exchange, time.

#include <cstdint>

#include "model/model_spec.h"

namespace adze::train {

struct TrainPlanRequest {
  int64_t step_tokens = 8192;      // rows of an optimiser step, all workers together
  int64_t sequence_length = 2048;  // rows
  int64_t micro_batch_tokens = 8192;
  bool checkpoint_activations = false;
  int64_t workers = 1;
  double worker_flops = 0;        // a second, at most
  double utilisation = 0.5;       // the share of them that training reaches
  double network_bytes = 1.25e9;  // a second, out of and into a worker
  double tokens = 0;              // of the whole run; 0: a step alone
};

struct TrainPlan {
  int64_t parameters = 0;
  double flops_per_token = 0;  // forward and backward; causal scores that are seen, embedding free
  double flops_per_step = 0;   // of all workers, recomputation included
  // Of a worker.
  int64_t value_bytes = 0;
  int64_t gradient_bytes = 0;
  int64_t optimizer_bytes = 0;         // sharded over workers (ZeRO-1)
  int64_t activation_bytes = 0;        // kept for the backward pass, and the logits of a chunk
  int64_t memory_bytes = 0;            // their sum
  int64_t network_bytes_per_step = 0;  // sent: gradients in a ring, updated values
  int64_t checkpoint_bytes = 0;        // values and two moments
  double seconds_per_step = 0;         // work, then exchange
  double tokens_per_second = 0;        // of all workers
  double seconds = 0;                  // of the run
};

TrainPlan plan_training(const model::ModelSpec& spec, const TrainPlanRequest& request);

}  // namespace adze::train
