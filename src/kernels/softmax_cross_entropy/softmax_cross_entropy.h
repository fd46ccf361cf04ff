#pragma once
// Loss of a row of logits: log(sum exp(logits)) - logits[target], in nats.

#include <cstdint>

namespace adze::kernels {

// logits [rows, columns]; targets [rows] in [0, columns), or -1 for a loss of zero; losses [rows].
// Memory bound. A loss is within 2e-6 * log(columns) + 1e-6 of the reference; bits depend on the
// row alone.
void softmax_cross_entropy(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses);
void softmax_cross_entropy_reference(  // double accumulation
    const float* logits,
    const int32_t* targets,
    int64_t rows,
    int64_t columns,
    float* losses);

struct CrossEntropyGradient {
  float* logits;           // [rows, columns]; overwritten by their gradient
  const int32_t* targets;  // [rows] in [0, columns), or -1: loss and gradient are zero
  int64_t rows;
  int64_t columns;
  // Of the row's loss: (log Σ exp(logits) - logits[target] + z_loss (log Σ exp(logits))²) * scale.
  float scale;
  float z_loss;
  float* losses;  // [rows] log Σ exp(logits) - logits[target], in nats, without the rest
};

// NaN and infinity in a row give NaN in its loss and its gradient, and in no other.
void softmax_cross_entropy_gradient(const CrossEntropyGradient& rows);
void softmax_cross_entropy_gradient_reference(const CrossEntropyGradient& rows);

}  // namespace adze::kernels
