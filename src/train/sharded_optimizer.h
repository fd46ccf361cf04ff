#pragma once
// An optimiser whose work and state are shared out to processes, whole tensors to each (ZeRO-1:
// Rajbhandari et al., arXiv:1910.02054, section 5.1): a process updates its own parameters, then
// all exchange values. With one process it is the optimiser itself.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/process_group.h"
#include "train/optimizer.h"

namespace adze::train {

class ShardedOptimizer {
 public:
  // parameters: of the whole model, rising in memory. Every process must call every method below in
  // the same order.
  ShardedOptimizer(const tensor::ProcessGroup& group,
                   const std::vector<Parameter>& parameters,
                   const std::string& optimizer);

  // One update, after which all processes have the same values.
  void step(double learning_rate, double gradient_scale);
  double usual_clip_norm() const { return optimizer_->usual_clip_norm(); }

  // The state as one process would have it: what checkpoints hold, so that a run may go on with
  // another number of processes.
  struct WholeState {
    std::vector<std::vector<float>> buffers;   // empty where there is one process
    std::vector<std::span<std::byte>> pieces;  // in the order of a checkpoint
  };
  WholeState whole_state() const;         // room for it, in place where there is one process
  void gather(WholeState& state) const;   // fills it
  void scatter(WholeState& state) const;  // takes process 0's

 private:
  // Neighbours in memory.
  struct Share {
    float* first_value = nullptr;
    int64_t values = 0;  // from the first to the last, with the gaps between
    int64_t first = 0;   // parameters of the shares before
    int64_t count = 0;   // parameters
  };
  static std::span<float> range_of(const Share& share, std::vector<float>& buffer);

  const tensor::ProcessGroup& group_;
  std::vector<Share> shares_;  // of each process
  int64_t num_values_ = 0;     // parameters of all processes
  std::unique_ptr<Optimizer> optimizer_;
};

}  // namespace adze::train
