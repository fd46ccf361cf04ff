#include <cmath>

#include "kernels/optimizer_update/optimizer_update.h"

namespace adze::kernels {

void adamw_update_reference(const AdamW& options, std::span<const ParameterSpan> parameters) {
  const auto step = static_cast<double>(options.step);
  for (const ParameterSpan& parameter : parameters) {
    for (int64_t i = 0; i < parameter.count; ++i) {
      const double gradient = static_cast<double>(parameter.gradient[i]) * options.gradient_scale;
      const double first =
          options.beta1 * static_cast<double>(parameter.first[i]) + (1 - options.beta1) * gradient;
      const double second = options.beta2 * static_cast<double>(parameter.second[i]) +
                            (1 - options.beta2) * gradient * gradient;
      const double decay =
          parameter.decays ? 1 - options.learning_rate * options.weight_decay : 1.0;
      const double mean = first / (1 - std::pow(options.beta1, step));
      const double spread = std::sqrt(second / (1 - std::pow(options.beta2, step)));
      parameter.value[i] =
          static_cast<float>(static_cast<double>(parameter.value[i]) * decay -
                             options.learning_rate * mean / (spread + options.epsilon));
      parameter.first[i] = static_cast<float>(first);
      parameter.second[i] = static_cast<float>(second);
    }
  }
}

}  // namespace adze::kernels
