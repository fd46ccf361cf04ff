#include "train/train_plan.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "train/trainer.h"

namespace adze::train {
namespace {

// Counted by hand for a model small enough: 2 layers, hidden 64, 4 heads, 2 kv heads, wide 96, 100
// tokens.
TEST(TrainPlan, CountsWhatAModelHas) {
  ModelShapeOptions shape;
  shape.hidden_size = 64;
  shape.num_layers = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.intermediate_size = 96;
  const model::ModelSpec spec = new_model_spec(shape, 100);
  TrainPlanRequest request{.step_tokens = 640, .sequence_length = 64, .micro_batch_tokens = 320};
  request.worker_flops = 1e9;
  request.utilisation = 0.5;
  const TrainPlan plan = plan_training(spec, request);
  const int64_t layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 96 * 64;
  EXPECT_EQ(plan.parameters, 2 * layer + 100 * 64 + 5 * 64);
  const double forward = 2.0 * (2 * layer + 100 * 64) + 2 * 4 * 64 * 32.5;
  EXPECT_DOUBLE_EQ(plan.flops_per_token, 3 * forward);
  EXPECT_DOUBLE_EQ(plan.flops_per_step, 3 * forward * 640);
  EXPECT_DOUBLE_EQ(plan.seconds_per_step, 3 * forward * 640 / 0.5e9);
  EXPECT_EQ(plan.network_bytes_per_step, 0);
  EXPECT_EQ(plan.checkpoint_bytes, 12 * plan.parameters);
  EXPECT_EQ(plan.memory_bytes, 16 * plan.parameters + plan.activation_bytes);

  request.workers = 4;
  const TrainPlan four = plan_training(spec, request);
  EXPECT_EQ(four.optimizer_bytes, 2 * plan.parameters);
  EXPECT_EQ(four.network_bytes_per_step, 9 * plan.parameters);
  request.checkpoint_activations = true;
  const TrainPlan less = plan_training(spec, request);
  EXPECT_LT(less.activation_bytes, four.activation_bytes);
  EXPECT_DOUBLE_EQ(less.flops_per_step, 4 * forward * 640);
}

TEST(ModelShape, OwnersOfSharedKeysMayHaveANormForThem) {
  ModelShapeOptions shape;
  shape.num_layers = 2;
  shape.kv_source = {0, 0};
  const TrainPlanRequest request{
      .step_tokens = 640, .sequence_length = 64, .micro_batch_tokens = 320};
  const auto parameters = [&] {
    return plan_training(new_model_spec(shape, 100), request).parameters;
  };
  const int64_t without = parameters();
  shape.separate_norms = true;
  EXPECT_TRUE(new_model_spec(shape, 100).key_value_norm);
  EXPECT_EQ(parameters(), without + shape.hidden_size);
  shape.kv_source = {0, 1};
  EXPECT_THROW(new_model_spec(shape, 100), core::InvalidOption);
  shape.kv_source.clear();
  EXPECT_THROW(new_model_spec(shape, 100), core::InvalidOption);
}

}  // namespace
}  // namespace adze::train
