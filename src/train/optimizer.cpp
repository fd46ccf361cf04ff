#include "train/optimizer.h"

#include "core/error.h"
#include "kernels/optimizer_update/optimizer_update.h"
#include "model/trainable_model.h"

namespace adze::train {
namespace {

class AdamW : public TwoMomentOptimizer<kernels::ParameterSpan> {
 public:
  AdamW(const std::vector<Parameter>& parameters, const AdamWOptions& options)
      : TwoMomentOptimizer(parameters), options_(options) {}

  void step(double learning_rate, double gradient_scale) override {
    kernels::adamw_update({.learning_rate = learning_rate,
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .epsilon = options_.epsilon,
                           .weight_decay = options_.weight_decay,
                           .gradient_scale = gradient_scale,
                           .step = next_step()},
                          spans());
  }

 private:
  AdamWOptions options_;
};

void require(bool holds, const char* field, double value, const char* legal) {
  if (!holds) {
    throw core::InvalidOption(
        fmt::format("optimizer adamw: {}", field), fmt::format("{}", value), legal);
  }
}

}  // namespace

void AdamWOptions::validate() const {
  require(beta1 >= 0 && beta1 < 1, "beta1", beta1, "[0, 1)");
  require(beta2 >= 0 && beta2 < 1, "beta2", beta2, "[0, 1)");
  require(epsilon > 0 && epsilon <= 1, "epsilon", epsilon, "above 0, up to 1");
  require(weight_decay >= 0 && weight_decay <= 10, "weight-decay", weight_decay, "0 to 10");
}

std::unique_ptr<Optimizer> make_adamw(std::vector<Parameter> parameters,
                                      const AdamWOptions& options) {
  return std::make_unique<AdamW>(parameters, options);
}

std::vector<Parameter> parameters_of(const model::TrainableModel& model) {
  std::vector<Parameter> parameters;
  for (const model::TrainableTensor& tensor : model.tensors()) {
    parameters.push_back({tensor.name,
                          model.values() + tensor.offset,
                          model.gradients() + tensor.offset,
                          tensor.count,
                          tensor.is_matrix() && !tensor.is_embedding()});
  }
  return parameters;
}

std::vector<OptimizerEntry>& optimizer_entries() {
  static std::vector<OptimizerEntry> entries = {
      make_optimizer_entry<AdamWOptions>("adamw", "Adam with decoupled weight decay", make_adamw)};
  return entries;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view text,
                                          std::vector<Parameter> parameters) {
  const auto [entry, values] = core::parse_named("optimizer", text, optimizer_entries());
  return entry->make(std::move(parameters), values);
}

}  // namespace adze::train
