#pragma once
// How parameters follow their gradients. Optimisers are found by name, with options of their own:
// "adamw:beta2=0.99"; methods add theirs in methods/register_methods.cpp.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/named_options.h"

namespace adze::model {
class TrainableModel;
}

namespace adze::train {

// One stored tensor. Memory belongs to the model.
struct Parameter {
  std::string name;
  float* value;
  const float* gradient;
  int64_t count;
  bool decays;  // matrices but for the embedding: takes part in weight decay
};

std::vector<Parameter> parameters_of(const model::TrainableModel& model);

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update by the gradients, each times `gradient_scale`, which must be finite.
  virtual void step(double learning_rate, double gradient_scale) = 0;

  // What a checkpoint holds beside the values, always in this order and of these sizes. Read and
  // written in place.
  virtual std::vector<std::span<float>> state() = 0;
  virtual std::vector<std::span<int64_t>> counters() = 0;

  // Norm that gradients are clipped to unless the user says otherwise; 0: none.
  virtual double usual_clip_norm() const { return 1.0; }
};

// What optimisers with two numbers of state a value have in common: that state, and the count of
// steps. Span: a tensor as the update takes it, {value, gradient, first, second, count, decays}.
template <class Span>
class TwoMomentOptimizer : public Optimizer {
 public:
  explicit TwoMomentOptimizer(const std::vector<Parameter>& parameters) {
    size_t all = 0;
    for (const Parameter& parameter : parameters) {
      all += static_cast<size_t>(parameter.count);
    }
    first_.resize(all);
    second_.resize(all);
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

  std::vector<std::span<float>> state() override { return {first_, second_}; }
  std::vector<std::span<int64_t>> counters() override { return {std::span(&steps_, 1)}; }

 protected:
  std::span<const Span> spans() const { return spans_; }
  int64_t next_step() { return ++steps_; }  // from 1

 private:
  std::vector<float> first_;
  std::vector<float> second_;
  std::vector<Span> spans_;
  int64_t steps_ = 0;
};

struct OptimizerEntry {
  std::string name;
  std::string summary;
  nlohmann::json defaults;                  // every key with its default
  std::map<std::string, std::string> help;  // of every key
  std::function<std::unique_ptr<Optimizer>(std::vector<Parameter>, const nlohmann::json& options)>
      make;
};

template <class Options>
OptimizerEntry make_optimizer_entry(std::string name,
                                    std::string summary,
                                    std::unique_ptr<Optimizer> (*make)(std::vector<Parameter>,
                                                                       const Options&)) {
  return {.name = std::move(name),
          .summary = std::move(summary),
          .defaults = core::option_defaults<Options>(),
          .help = core::option_help<Options>(),
          .make = [make](std::vector<Parameter> parameters, const nlohmann::json& values) {
            return make(std::move(parameters), core::read_options<Options>(values));
          }};
}

std::vector<OptimizerEntry>& optimizer_entries();
// Throws core::UsageError: unknown name or key, a value out of range.
std::unique_ptr<Optimizer> make_optimizer(std::string_view text, std::vector<Parameter> parameters);

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("beta1", self.beta1, "decay of the first moment, [0, 1)");
    visit("beta2", self.beta2, "decay of the second moment, [0, 1)");
    visit("epsilon", self.epsilon, "added to the root of the second moment, above 0");
    visit("weight-decay", self.weight_decay, "share of a matrix, times the rate, lost a step");
  }
};
std::unique_ptr<Optimizer> make_adamw(std::vector<Parameter> parameters,
                                      const AdamWOptions& options);

}  // namespace adze::train
