#include <algorithm>
#include <cmath>

#include "methods/fadam/fadam.h"

namespace adze::methods::fadam {
namespace {

double root_mean_square(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) {
    sum += value * value;
  }
  return std::sqrt(sum / static_cast<double>(values.size()));
}

void clip(std::vector<double>& values, double limit) {
  if (limit == 0) {
    return;
  }
  const double factor = std::max(1.0, root_mean_square(values) / limit);
  for (double& value : values) {
    value /= factor;
  }
}

}  // namespace

void fadam_reference(const FAdamOptions& options,
                     const Update& update,
                     std::span<double> value,
                     std::span<const double> gradient,
                     std::span<double> momentum,
                     std::span<double> fisher,
                     bool decays) {
  const auto t = static_cast<double>(update.step);
  std::vector<double> g(gradient.begin(), gradient.end());
  for (double& entry : g) {
    entry *= update.gradient_scale;
  }
  const double beta2 = options.beta2 * (1 - std::pow(options.beta2, t - 1)) /
                       (1 - std::pow(options.beta2, t));  // line 6
  for (size_t i = 0; i < g.size(); ++i) {
    fisher[i] = (beta2 == 0 ? 0 : beta2 * fisher[i]) + (1 - beta2) * g[i] * g[i];  // line 7
  }
  const double size = root_mean_square(g);
  double epsilon = options.epsilon;  // line 8
  if (options.epsilon_mode == "rel") {
    epsilon *= std::min(1.0, size);
  } else if (options.epsilon_mode == "min") {
    epsilon = std::min(epsilon, options.epsilon2 * size);
  }
  std::vector<double> divisor(g.size());
  std::vector<double> natural(g.size());
  std::vector<double> decayed(g.size());
  for (size_t i = 0; i < g.size(); ++i) {
    divisor[i] = std::max(std::pow(fisher[i], options.power) + epsilon, 1e-30);
    if (!options.natural_momentum) {
      momentum[i] = options.beta1 * momentum[i] + (1 - options.beta1) * g[i];
    }
    const double debias =
        options.debias && !options.natural_momentum ? 1 - std::pow(options.beta1, t) : 1;
    natural[i] = (options.natural_momentum ? g[i] : momentum[i] / debias) / divisor[i];  // line 9
    decayed[i] = value[i];
    if (options.decay == "fisher") {
      decayed[i] = fisher[i] > 0 ? value[i] / divisor[i] : 0;  // line 12
    }
  }
  clip(natural, options.clip);  // line 10
  if (options.decay == "fisher") {
    clip(decayed, options.clip);  // line 13
  }
  for (size_t i = 0; i < g.size(); ++i) {
    double direction = natural[i];
    if (options.natural_momentum) {
      momentum[i] = options.beta1 * momentum[i] + (1 - options.beta1) * natural[i];  // line 11
      direction = momentum[i] / (options.debias ? 1 - std::pow(options.beta1, t) : 1);
    }
    const double decay = decays ? options.weight_decay * decayed[i] : 0;
    value[i] -= update.learning_rate * (direction + decay);  // line 14
  }
}

}  // namespace adze::methods::fadam
