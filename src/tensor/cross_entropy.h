#pragma once
// The loss of next-token prediction without the matrix of all logits: they are made, used and
// forgotten a few rows at a time.

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/aten.h"
#include "tensor/linear_weight.h"

namespace adze::tensor {

struct CrossEntropyOptions {
  // Gradients are those of scale * Σ over rows of (loss + z_loss * (log Σ exp(logits))²): with 1 /
  // targets of the whole step as scale, gradients of micro-batches add up to those of the step.
  double scale = 1;
  double z_loss = 0;
  double softcap = 0;  // c: logits become c tanh(logit / c); 0: as they are
};

struct CrossEntropy {
  at::Tensor loss;            // [] f32, recorded; its value leaves z_loss out
  std::vector<float> losses;  // [rows] in nats, 0 where the target is ignored
  double sum() const;         // of the losses, in order
};

// hidden [rows, columns] f32; output: logits = hidden · outputᵀ, dense or one that is not trained.
// targets [rows]: below output.outputs(), or -1: ignored, neither in the loss nor in a gradient.
// NOTE: where gradients are recorded they are computed at once, hidden's kept and the output
// weight's added to its .grad, which it must have. So the loss must get a gradient of exactly 1:
// call backward() on it or on a plain sum.
CrossEntropy cross_entropy(const at::Tensor& hidden,
                           const LinearWeight& output,
                           std::span<const int32_t> targets,
                           const CrossEntropyOptions& options);

}  // namespace adze::tensor
