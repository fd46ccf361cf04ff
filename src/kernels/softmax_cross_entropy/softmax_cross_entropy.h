#pragma once
// Loss of a row of logits: log(sum exp(logits)) - logits[target], in nats.

#include <cstdint>

namespace adze::kernels {

// logits [rows, columns]; targets [rows] in [0, columns); losses [rows]. Memory bound. A loss is
// within 2e-6 * log(columns) + 1e-6 of the reference; bits depend on the row alone.
void softmax_cross_entropy(
    const float* logits, const int32_t* targets, int64_t rows, int64_t columns, float* losses);
void softmax_cross_entropy_reference(  // double accumulation
    const float* logits,
    const int32_t* targets,
    int64_t rows,
    int64_t columns,
    float* losses);

}  // namespace adze::kernels
