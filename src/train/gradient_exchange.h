#pragma once
// Sums of gradients over processes that begin while the backward pass still runs: it comes from the
// last layer to the first, so what lies behind a layer in the buffer is ready before it.

#include <cstdint>
#include <exception>
#include <functional>
#include <vector>

#include "model/trainable_model.h"
#include "tensor/process_group.h"

namespace adze::train {

// One step's exchange. All processes sum the same stretches of memory in the same order, whenever
// each of them gets there.
class GradientExchange {
 public:
  static constexpr int64_t kBucket = int64_t{1} << 20;  // values: 4 MB

  // Group and model must outlive it.
  GradientExchange(const tensor::ProcessGroup& group,
                   const model::TrainableModel& model,
                   int64_t bucket = kBucket);
  ~GradientExchange();  // waits for what has begun
  GradientExchange(const GradientExchange&) = delete;
  GradientExchange& operator=(const GradientExchange&) = delete;

  // The gradients of all layers above this one are complete.
  void above_is_done(int64_t layer);
  // All are: every process has the sums after this. Throws what ProcessGroup::sum() throws.
  void finish();

 private:
  // Ready when everything above `layer` is.
  struct Bucket {
    int64_t layer;
    float* values;
    int64_t count;
  };
  void begin_next();
  void wait();

  const tensor::ProcessGroup& group_;
  std::vector<Bucket> buckets_;  // from the end of the buffer to its beginning
  size_t begun_ = 0;
  std::vector<std::function<void()>> running_;
  std::exception_ptr failure_;  // the first; told by finish(), not within the backward pass
};

}  // namespace adze::train
