#include "train/train_plan.h"

#include <algorithm>
#include <cmath>

#include "model/tensor_names.h"

namespace adze::train {
namespace {

constexpr int64_t kFloat = sizeof(float);

// Floats that one row of a layer keeps: what recorded operations hold (tensor/operations.cpp,
// attention.cpp, linear_weight.cpp).
int64_t kept_by_layer(const model::ModelSpec& spec, int64_t layer) {
  const int64_t norms = 2 * 2 * spec.hidden_size;    // the sum and what follows it
  const int64_t query = spec.heads * spec.head_dim;  // rotated
  const int64_t attended = query + spec.heads;       // with its logarithms of sums
  const int64_t own = spec.owns_kv(layer) ? 2 * spec.kv_width() : 0;
  const int64_t wide = (spec.gated ? 3 : 2) * spec.intermediate_size;
  return norms + query + attended + own + wide;
}

int64_t kept_floats(const model::ModelSpec& spec, bool checkpoint_activations) {
  int64_t all = 0;
  int64_t largest = 0;
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    all += kept_by_layer(spec, layer);
    largest = std::max(largest, kept_by_layer(spec, layer));
  }
  if (!checkpoint_activations) {
    return all + 2 * spec.hidden_size;
  }
  // Between layers the residual and what is to be added; one layer at a time in full.
  return 2 * spec.hidden_size * (spec.num_layers + 1) + largest;
}

}  // namespace

TrainPlan plan_training(const model::ModelSpec& spec, const TrainPlanRequest& request) {
  TrainPlan plan;
  int64_t matrices = 0;
  for (const model::ExpectedTensor& tensor : model::expected_tensors(spec)) {
    int64_t count = 1;
    for (const int64_t size : tensor.shape) {
      count *= size;
    }
    plan.parameters += count;
    const bool looked_up = tensor.name == "token_embd.weight" && !spec.tied_output;
    matrices += tensor.shape.size() == 2 && !looked_up ? count : 0;
  }
  double scores = 0;  // that a row sees, over all layers
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    const auto rows = static_cast<double>(request.sequence_length);
    const auto window = static_cast<double>(spec.window(layer));
    scores +=
        window > 0 && window < rows ? window - window * (window - 1) / (2 * rows) : (rows + 1) / 2;
  }
  const auto width = static_cast<double>(spec.heads * spec.head_dim);
  const double forward = 2 * static_cast<double>(matrices) + 4 * width * scores;
  plan.flops_per_token = 3 * forward;
  plan.flops_per_step =
      (request.checkpoint_activations ? 4 : 3) * forward * static_cast<double>(request.step_tokens);

  const int64_t own_rows = std::min(request.micro_batch_tokens,
                                    (request.step_tokens + request.workers - 1) / request.workers);
  plan.value_bytes = kFloat * plan.parameters;
  plan.gradient_bytes = kFloat * plan.parameters;
  plan.optimizer_bytes = (2 * kFloat * plan.parameters + request.workers - 1) / request.workers;
  plan.activation_bytes = kFloat * own_rows * kept_floats(spec, request.checkpoint_activations) +
                          kFloat * (int64_t{4} << 20);
  plan.memory_bytes =
      plan.value_bytes + plan.gradient_bytes + plan.optimizer_bytes + plan.activation_bytes;
  plan.checkpoint_bytes = 3 * kFloat * plan.parameters;

  const auto workers = static_cast<double>(request.workers);
  const double exchanged = 3 * (workers - 1) / workers * static_cast<double>(plan.value_bytes);
  plan.network_bytes_per_step = static_cast<int64_t>(exchanged);
  plan.seconds_per_step =
      plan.flops_per_step / (workers * request.worker_flops * request.utilisation) +
      exchanged / request.network_bytes;
  plan.tokens_per_second = static_cast<double>(request.step_tokens) / plan.seconds_per_step;
  plan.seconds =
      request.tokens > 0 ? request.tokens / plan.tokens_per_second : plan.seconds_per_step;
  return plan;
}

}  // namespace adze::train
