// What FAdam's changes do to whole training runs, beside AdamW (sheet 07 §6.6): a byte model and
// the same batches; the loss times 1e-7; one step of random bytes whose gradient is a hundred times
// as large. Without settings a small one on a chain of known entropy; the sheet's on real text, as
// a table:
//   ADZE_FADAM_STEPS=400 ADZE_SHARED=../shared build/release/methods_test
//   --gtest_filter='FAdamTraining.Table'
#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/env.h"
#include "core/named_options.h"
#include "core/rng.h"
#include "data/batch_source.h"
#include "kernels/optimizer_update/optimizer_update.h"
#include "kv/rotation.h"
#include "methods/fadam/fadam.h"
#include "model/trainable_model.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/trainer.h"

namespace adze::methods::fadam {
namespace {

// Bytes and what is trained on them.
struct Task {
  std::string training, held_out;
  train::ModelShapeOptions shape;
  int64_t sequences, length;  // of a step
  int64_t steps;
  double learning_rate;
};

struct Disturbance {
  double loss_scale = 1;
  int64_t random_step = -1;  // this step's bytes are random and its gradient counts 100 times
};

struct Curve {
  // Of held-out bytes, nats a byte, after each step; between evaluations that of the last one.
  std::vector<double> loss;

  double last() const { return loss.back(); }
  double before(int64_t step) const { return loss[static_cast<size_t>(step - 1)]; }
  double highest_after(int64_t step) const {
    return *std::max_element(loss.begin() + step, loss.end());
  }
  // Steps after a disturbed one until the loss is as low as before it; -1: not within the run.
  int64_t recovery(int64_t step) const {
    const auto found = std::find_if(
        loss.begin() + step + 1, loss.end(), [&](double value) { return value <= before(step); });
    return found == loss.end() ? -1 : found - loss.begin() - step;
  }
};

data::TokenBatch batch_of(const Task& task, const std::string& text, core::Rng& rng) {
  data::TokenBatch batch;
  batch.sequence_starts = {0};
  for (int64_t sequence = 0; sequence < task.sequences; ++sequence) {
    const uint64_t places = text.size() - static_cast<size_t>(task.length);
    const size_t start = rng.next_uint64() % places;
    for (size_t i = start; i < start + static_cast<size_t>(task.length); ++i) {
      batch.tokens.push_back(static_cast<unsigned char>(text[i]));
      batch.targets.push_back(static_cast<unsigned char>(text[i + 1]));
    }
    batch.sequence_starts.push_back(static_cast<int64_t>(batch.tokens.size()));
  }
  batch.num_targets = static_cast<int64_t>(batch.targets.size());
  return batch;
}

Curve train_curve(const Task& task,
                  const std::string& optimizer_name,
                  uint64_t seed,
                  const Disturbance& disturbance = {}) {
  const model::TrainableModel model(train::new_model_spec(task.shape, 256));
  model::initialise(model, seed);
  std::vector<train::OptimizerEntry> entries = train::optimizer_entries();
  entries.push_back(optimizer_entry());
  const auto [entry, options] = core::parse_named("optimizer", optimizer_name, entries);
  const auto optimizer = entry->make(train::parameters_of(model), options);
  kv::Rotation rotation(model.model().spec, task.length);
  rotation.reserve_positions(task.length);
  const train::ScheduleOptions schedule{.learning_rate = task.learning_rate,
                                        .warmup_steps = std::max<int64_t>(1, task.steps / 20)};
  core::Rng held_out_places(99);
  const data::TokenBatch held_out = batch_of(task, task.held_out, held_out_places);
  core::Rng noise_bytes(7);
  std::string noise(static_cast<size_t>(task.length) + 1000, '\0');
  std::generate(
      noise.begin(), noise.end(), [&] { return static_cast<char>(noise_bytes.next_uint64()); });

  Curve curve;
  core::Rng places(seed, 1);  // the same batches for every optimiser
  for (int64_t step = 0; step < task.steps; ++step) {
    const bool random = step == disturbance.random_step;
    const data::TokenBatch batch = batch_of(task, random ? noise : task.training, places);
    std::fill_n(model.gradients(), model.size(), 0.0F);
    const double scale = disturbance.loss_scale * (random ? 100 : 1);
    train::add_gradients(
        model.model(), rotation, batch, {.scale = scale / static_cast<double>(batch.num_targets)});
    const double norm = std::sqrt(kernels::sum_of_squares(model.gradients(), model.size()));
    const double limit = optimizer->usual_clip_norm();
    optimizer->step(train::learning_rate_at(schedule, step, task.steps),
                    limit > 0 && norm > limit ? limit / norm : 1.0);
    const bool disturbed = disturbance.random_step >= 0 && step >= disturbance.random_step - 1;
    if (disturbed || step % 10 == 0 || step + 1 == task.steps) {
      curve.loss.push_back(train::loss_sum(model.model(), rotation, held_out) /
                           static_cast<double>(held_out.num_targets));
    } else {
      curve.loss.push_back(curve.loss.back());
    }
  }
  return curve;
}

// A byte is followed by one of four, each as likely: no model is better than log 4.
std::string random_chain(size_t size, uint64_t seed) {
  constexpr uint64_t kStates = 32;
  core::Rng rng(seed);
  std::string chain(1, '\0');
  while (chain.size() < size) {
    const uint64_t state = static_cast<unsigned char>(chain.back());
    chain.push_back(static_cast<char>((state * 5 + rng.next_uint64() % 4 * 7 + 1) % kStates));
  }
  return chain;
}

Task small_task() {
  return {.training = random_chain(20'000, 1),
          .held_out = random_chain(4'000, 2),
          .shape = {.hidden_size = 32,
                    .num_layers = 2,
                    .heads = 2,
                    .intermediate_size = 64,
                    .kv_source = {}},
          .sequences = 8,
          .length = 32,
          .steps = 300,
          .learning_rate = 0.01};
}

TEST(FAdamTraining, LearnsAsAdamWDoes) {
  const Task task = small_task();
  const double fadam = train_curve(task, "fadam", 1).last();
  const double adamw = train_curve(task, "adamw", 1).last();
  EXPECT_GT(fadam, std::log(4.0));
  EXPECT_LT(fadam, std::log(4.0) + 0.1);
  EXPECT_NEAR(fadam, adamw, 0.05);
}

TEST(FAdamTraining, DoesNotSeeTheScaleOfTheLoss) {
  const Task task = small_task();
  const Curve plain = train_curve(task, "fadam", 1);
  const Curve scaled = train_curve(task, "fadam", 1, {.loss_scale = 1e-7});
  for (size_t step = 0; step < plain.loss.size(); ++step) {
    EXPECT_NEAR(scaled.loss[step], plain.loss[step], 2e-3) << "step " << step;
  }
  // AdamW's epsilon is as large as its gradients then.
  const double adamw = train_curve(task, "adamw", 1).last();
  EXPECT_GT(train_curve(task, "adamw", 1, {.loss_scale = 1e-7}).last(), adamw + 0.2);
}

TEST(FAdamTraining, ForgetsAStepOfNoise) {
  const Task task = small_task();
  const int64_t middle = task.steps / 2;
  const Curve curve = train_curve(task, "fadam", 1, {.random_step = middle});
  EXPECT_LT(curve.highest_after(middle), curve.before(middle) + 0.5);
  EXPECT_GE(curve.recovery(middle), 0);
}

std::string joined_documents(const std::string& path, size_t size) {
  std::ifstream file(path);
  std::string text;
  for (std::string line; text.size() < size && std::getline(file, line);) {
    text += nlohmann::json::parse(line).at("text").get<std::string>() + "\n";
  }
  return text;
}

std::string spread(const std::vector<double>& values) {
  double mean = 0;
  for (const double value : values) {
    mean += value / static_cast<double>(values.size());
  }
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{:.3f} ({:.3f} to {:.3f})", mean, *least, *most);
}

TEST(FAdamTraining, Table) {
  const auto steps = core::environment("ADZE_FADAM_STEPS");
  const auto shared = core::environment("ADZE_SHARED");
  if (!steps || !shared) {
    GTEST_SKIP() << "an experiment of many minutes: ADZE_FADAM_STEPS and ADZE_SHARED ask for it";
  }
  const Task task{.training = joined_documents(*shared + "/data/text/docs-train.jsonl", 4 << 20),
                  .held_out = joined_documents(*shared + "/data/text/docs-valid.jsonl", 1 << 20),
                  .shape = {.hidden_size = 96,
                            .num_layers = 6,
                            .heads = 3,
                            .kv_heads = 1,
                            .intermediate_size = 256,
                            .kv_source = {}},
                  .sequences = 16,
                  .length = 192,
                  .steps = std::stoll(*steps),
                  .learning_rate = 3e-3};
  const int64_t middle = task.steps / 2;
  fmt::print(
      "| optimiser | loss | loss x 1e-7 | random step: highest after | steps to recover | at the "
      "end |\n"
      "|---|---|---|---|---|---|\n");
  for (const std::string optimizer :
       {"adamw", "fadam:weight-decay=0", "fadam:weight-decay=0.001", "fadam:weight-decay=0.1"}) {
    std::vector<double> plain, scaled, highest, disturbed;
    std::string recovery;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      plain.push_back(train_curve(task, optimizer, seed).last());
      scaled.push_back(train_curve(task, optimizer, seed, {.loss_scale = 1e-7}).last());
      const Curve curve = train_curve(task, optimizer, seed, {.random_step = middle});
      highest.push_back(curve.highest_after(middle) - curve.before(middle));
      disturbed.push_back(curve.last());
      recovery += fmt::format("{}{}", recovery.empty() ? "" : ", ", curve.recovery(middle));
    }
    fmt::print("| `{}` | {} | {} | +{} | {} | {} |\n",
               optimizer,
               spread(plain),
               spread(scaled),
               spread(highest),
               recovery,
               spread(disturbed));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace adze::methods::fadam
