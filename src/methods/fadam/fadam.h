#pragma once
// FAdam (Hwang, arXiv:2405.12807): Adam read as natural-gradient descent with a diagonal empirical
// Fisher matrix, and put right where that reading asks for it: momentum on the preconditioned
// gradient, an epsilon that follows the gradient, a clip after preconditioning, weight decay by the
// same metric.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "train/optimizer.h"

namespace adze::methods::fadam {

struct FAdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  std::string epsilon_mode = "rel";
  double epsilon2 = 1e-3;
  double clip = 1;
  double power = 0.5;
  double weight_decay = 1e-3;
  std::string decay = "fisher";
  bool natural_momentum = true;
  bool debias = false;

  void validate() const;  // throws InvalidOption: field, value, legal range

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("beta1", self.beta1, "decay of the momentum, [0, 1)");
    visit("beta2", self.beta2, "decay of the Fisher information, [0, 1)");
    visit("epsilon", self.epsilon, "added to the root of the Fisher information");
    visit("epsilon-mode",
          self.epsilon_mode,
          "fixed: epsilon; min: min(epsilon, epsilon2 RMS(g)); rel: epsilon min(1, RMS(g))");
    visit("epsilon2", self.epsilon2, "of epsilon-mode min");
    visit("clip", self.clip, "root mean square that a tensor's natural gradient may have; 0: any");
    visit("power", self.power, "of the Fisher information, 0 to 1; 0.5 is Adam's");
    visit("weight-decay", self.weight_decay, "of matrices but the embedding");
    visit("decay",
          self.decay,
          "fisher: weights by the same metric, clipped alike; decoupled: AdamW's");
    visit("natural-momentum", self.natural_momentum, "average natural gradients, not gradients");
    visit("debias", self.debias, "divide the momentum by 1 - beta1^t, as Adam does");
  }
};

// One tensor with its state; `step` is the update's number, from 1.
struct FisherSpan {
  float* value;
  const float* gradient;
  float* momentum;
  float* fisher;
  int64_t count;
  bool decays;
};

struct Update {
  double learning_rate;
  double gradient_scale;
  int64_t step;
};

// Three passes, 12 floats of traffic a value where it decays; small tensors are taken in groups
// that stay in a cache from pass to pass. Sums over a tensor are taken in double, in blocks of
// fixed size and in order: bits do not depend on threads.
void fadam_update(const FAdamOptions& options,
                  const Update& update,
                  std::span<const FisherSpan> tensors);

// The algorithm as the sheet writes it, a tensor at a time, in double.
void fadam_reference(const FAdamOptions& options,
                     const Update& update,
                     std::span<double> value,
                     std::span<const double> gradient,
                     std::span<double> momentum,
                     std::span<double> fisher,
                     bool decays);

std::unique_ptr<train::Optimizer> make_fadam(std::vector<train::Parameter> parameters,
                                             const FAdamOptions& options);
train::OptimizerEntry optimizer_entry();  // "fadam"

}  // namespace adze::methods::fadam
