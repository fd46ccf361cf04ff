#include "train/optimizer.h"

#include "core/error.h"
#include "kernels/optimizer_update/optimizer_update.h"

namespace adze::train {
namespace {

class AdamW : public Optimizer {
 public:
  AdamW(std::vector<Parameter> parameters, const AdamWOptions& options) : options_(options) {
    int64_t all = 0;
    for (const Parameter& parameter : parameters) {
      all += parameter.count;
    }
    first_.resize(static_cast<size_t>(all));
    second_.resize(static_cast<size_t>(all));
    size_t place = 0;
    for (const Parameter& parameter : parameters) {
      spans_.push_back({parameter.value,
                        parameter.gradient,
                        first_.data() + place,
                        second_.data() + place,
                        parameter.count,
                        parameter.decays});
      place += static_cast<size_t>(parameter.count);
    }
  }

  void step(double learning_rate, double gradient_scale) override {
    ++steps_;
    kernels::adamw_update({.learning_rate = learning_rate,
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .epsilon = options_.epsilon,
                           .weight_decay = options_.weight_decay,
                           .gradient_scale = gradient_scale,
                           .step = steps_},
                          spans_);
  }

  std::vector<std::span<float>> state() override { return {first_, second_}; }
  std::vector<std::span<int64_t>> counters() override { return {std::span(&steps_, 1)}; }

 private:
  AdamWOptions options_;
  std::vector<float> first_;
  std::vector<float> second_;
  std::vector<kernels::ParameterSpan> spans_;
  int64_t steps_ = 0;
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
  return std::make_unique<AdamW>(std::move(parameters), options);
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
