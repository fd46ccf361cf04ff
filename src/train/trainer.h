#pragma once
// The training loop: steps of forward, backward and update over a BatchSource, with evaluation,
// metrics and checkpoints. A run's numbers depend on its options alone; at one number of threads a
// run that was killed and resumed gives the bits of one that was not.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/options.h"
#include "model/trainable_model.h"
#include "train/schedule.h"

namespace adze::train {

// A model from nothing; ignored where one is continued. The vocabulary comes from the data.
struct ModelShapeOptions {
  std::string architecture = "llama";
  int64_t hidden_size = 384;
  int64_t num_layers = 8;
  int64_t heads = 6;
  int64_t kv_heads = 2;
  int64_t intermediate_size = 1024;
  int64_t context_length = 2048;
  double rope_base = 10000;
  bool tied_output = true;
  std::vector<int64_t> kv_source;
  bool separate_norms = false;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("architecture", self.architecture, "of a new model: llama, mistral, qwen2, qwen3");
    visit("hidden-size", self.hidden_size, "columns of a row, a multiple of 32 and of heads");
    visit("layers", self.num_layers, "blocks");
    visit("heads", self.heads, "query heads");
    visit("kv-heads", self.kv_heads, "heads of keys and values, a divisor of heads");
    visit("intermediate-size", self.intermediate_size, "columns within a feed forward");
    visit("context-length", self.context_length, "positions that the model is said to know");
    visit("rope-base", self.rope_base, "base of the rotary frequencies");
    visit("tied-output", self.tied_output, "logits come from the embedding's own weight");
    visit("kv-source",
          self.kv_source,
          "a number a layer: whose keys and values it reads; none: every layer its own");
    visit(
        "separate-norms",
        self.separate_norms,
        "with kv-source: layers that own keys and values norm their input for them by a weight of "
        "its own");
  }
};

// Throws InvalidOption or core::Error: field, value, legal range.
model::ModelSpec new_model_spec(const ModelShapeOptions& shape, int64_t vocab_size);

struct TrainOptions {
  std::string data;
  std::optional<std::string> validation_data;
  int64_t validation_documents = 0;
  int64_t validation_tokens = 65536;
  std::optional<std::string> model;
  model::LowRankOptions factors;
  ModelShapeOptions shape;
  std::string batches = "concat";
  int64_t step_tokens = 8192;
  int64_t micro_batch_tokens = 8192;
  bool checkpoint_activations = false;
  int64_t steps = 1000;
  std::string optimizer = "adamw";
  ScheduleOptions schedule;
  std::optional<double> clip_norm;
  double z_loss = 0;
  uint64_t seed = 1;
  int64_t evaluate_every = 0;
  int64_t checkpoint_every = 100;
  int64_t keep_checkpoints = 2;
  std::string save_type = "f32";
  bool verify_data = true;
  double worker_timeout = 60;

  void validate() const;  // throws UsageError: field, value, legal range

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("data", self.data, "folder that adze data tokenize has made");
    visit("validation-data", self.validation_data, "such a folder to evaluate on");
    visit("validation-documents",
          self.validation_documents,
          "without validation-data: the last documents of the data, kept out of training");
    visit("validation-tokens", self.validation_tokens, "tokens that an evaluation scores, at most");
    visit("model", self.model, "a model to go on with: a name, a GGUF file or a folder");
    visit("", self.factors, "");
    visit("", self.shape, "");
    visit("batches",
          self.batches,
          "how documents fill steps: concat, pack, ...; keys behind a colon");
    visit("step-tokens", self.step_tokens, "rows of an optimiser step");
    visit("micro-batch-tokens",
          self.micro_batch_tokens,
          "rows of a forward and backward pass; changes memory and rounding alone");
    visit("checkpoint-activations",
          self.checkpoint_activations,
          "keep activations between layers alone and compute the rest again: less memory, the same "
          "bits, a third more work");
    visit("steps", self.steps, "optimiser steps of the run");
    visit("optimizer", self.optimizer, "adamw, ...; keys behind a colon: adamw:beta2=0.99");
    visit("", self.schedule, "");
    visit("clip-norm",
          self.clip_norm,
          "gradients are scaled down to this norm; 0: never; without it, what the optimiser uses");
    visit("z-loss", self.z_loss, "weight of the squared logarithm of the softmax's sum");
    visit("seed", self.seed, "of the first weights and of the order of the data");
    visit("evaluate-every", self.evaluate_every, "steps between evaluations; 0: at the end alone");
    visit("checkpoint-every", self.checkpoint_every, "steps between checkpoints");
    visit("keep-checkpoints", self.keep_checkpoints, "checkpoints that stay, the newest");
    visit("save-type", self.save_type, "of the saved model: f32, f16 or bf16");
    visit("verify-data", self.verify_data, "compare the data's checksums first");
    visit("worker-timeout",
          self.worker_timeout,
          "several processes: seconds after which one that does not answer counts as lost; a "
          "process's part of a step and the write of a checkpoint have to fit in");
  }
};

struct TrainHooks {
  // After each step: steps done, its loss, tokens a second so far.
  std::function<void(int64_t, double, double)> on_step = [](int64_t, double, double) {};
  std::function<void(std::string_view)> notice = [](std::string_view) {};
  std::function<bool()> stopped = [] { return false; };  // true: save a checkpoint and end
};

struct TrainSummary {
  bool finished = false;
  nlohmann::ordered_json json;  // steps, tokens, train_loss, validation_loss, ...
};

// Trains in the folder `out`, alone or as one of several processes (tensor/process_group.h), of
// which process 0 writes the folder and has the summary. model_path: of options.model. Throws
// core::Error: options, data, a full disk, a loss that stays without a number.
TrainSummary train(const TrainOptions& options,
                   const std::filesystem::path& model_path,
                   const std::filesystem::path& out,
                   bool resume,
                   const TrainHooks& hooks);

}  // namespace adze::train
