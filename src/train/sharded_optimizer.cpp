#include "train/sharded_optimizer.h"

#include <algorithm>
#include <utility>

namespace adze::train {

ShardedOptimizer::ShardedOptimizer(const tensor::ProcessGroup& group,
                                   const std::vector<Parameter>& parameters,
                                   const std::string& optimizer)
    : group_(group), shares_(static_cast<size_t>(group.size())) {
  for (const Parameter& parameter : parameters) {
    num_values_ += parameter.count;
  }
  std::vector<Parameter> own;
  int64_t before = 0;
  for (const Parameter& parameter : parameters) {
    // The share in which the tensor's middle lies.
    const auto owner =
        static_cast<size_t>((2 * before + parameter.count) * group.size() / (2 * num_values_));
    Share& share = shares_[owner];
    if (share.count == 0) {
      share.first_value = parameter.value;
      share.first = before;
    }
    share.values = parameter.value + parameter.count - share.first_value;
    share.count += parameter.count;
    before += parameter.count;
    if (std::cmp_equal(owner, group.rank())) {
      own.push_back(parameter);
    }
  }
  optimizer_ = make_optimizer(optimizer, std::move(own));
}

void ShardedOptimizer::step(double learning_rate, double gradient_scale) {
  optimizer_->step(learning_rate, gradient_scale);
  for (size_t process = 0; group_.size() > 1 && process < shares_.size(); ++process) {
    const Share& share = shares_[process];
    group_.broadcast(
        std::as_writable_bytes(std::span(share.first_value, static_cast<size_t>(share.values))),
        static_cast<int64_t>(process));
  }
}

ShardedOptimizer::WholeState ShardedOptimizer::whole_state() const {
  WholeState state;
  for (const auto& own : optimizer_->state()) {
    std::span<float> whole = own;
    if (group_.size() > 1) {
      whole = state.buffers.emplace_back(static_cast<size_t>(num_values_));
    }
    state.pieces.push_back(std::as_writable_bytes(whole));
  }
  for (const auto& counter : optimizer_->counters()) {
    state.pieces.push_back(std::as_writable_bytes(counter));
  }
  return state;
}

std::span<float> ShardedOptimizer::range_of(const Share& share, std::vector<float>& buffer) {
  return std::span(buffer).subspan(static_cast<size_t>(share.first),
                                   static_cast<size_t>(share.count));
}

void ShardedOptimizer::gather(WholeState& state) const {
  const auto own = optimizer_->state();
  for (size_t k = 0; k < state.buffers.size(); ++k) {
    for (size_t process = 0; process < shares_.size(); ++process) {
      const std::span<float> range = range_of(shares_[process], state.buffers[k]);
      if (std::cmp_equal(process, group_.rank())) {
        std::copy(own[k].begin(), own[k].end(), range.begin());
      }
      group_.broadcast(std::as_writable_bytes(range), static_cast<int64_t>(process));
    }
  }
}

void ShardedOptimizer::scatter(WholeState& state) const {
  const auto own = optimizer_->state();
  for (size_t k = 0; k < state.buffers.size(); ++k) {
    group_.broadcast(std::as_writable_bytes(std::span(state.buffers[k])), 0);
    const std::span<float> range =
        range_of(shares_[static_cast<size_t>(group_.rank())], state.buffers[k]);
    std::copy(range.begin(), range.end(), own[k].begin());
  }
  for (const auto& counter : optimizer_->counters()) {
    group_.broadcast(std::as_writable_bytes(counter), 0);
  }
}

}  // namespace adze::train
