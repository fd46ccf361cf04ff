#include "train/gradient_exchange.h"

#include <charconv>
#include <span>
#include <string_view>
#include <utility>

namespace adze::train {
namespace {

// The layer that a tensor belongs to; -1 for the embedding, which is used before all layers, and
// num_layers for what comes after them.
int64_t layer_of(const model::TrainableTensor& tensor, int64_t num_layers) {
  constexpr std::string_view kBlock = "blk.";
  if (tensor.name.starts_with(kBlock)) {
    int64_t layer = -1;
    const char* end = tensor.name.data() + tensor.name.size();
    std::from_chars(tensor.name.data() + kBlock.size(), end, layer);
    return layer;
  }
  return tensor.name.starts_with("token_embd") ? -1 : num_layers;
}

}  // namespace

GradientExchange::GradientExchange(const tensor::ProcessGroup& group,
                                   const model::TrainableModel& model,
                                   int64_t bucket)
    : group_(group) {
  if (group.size() == 1) {
    return;
  }
  const int64_t num_layers = model.model().spec.num_layers;
  int64_t end = model.size();
  auto tensor = model.tensors().rbegin();
  int64_t begin = end;
  for (int64_t layer = num_layers - 1; layer >= 0; --layer) {
    for (; tensor != model.tensors().rend() && layer_of(*tensor, num_layers) > layer; ++tensor) {
      begin = tensor->offset;
    }
    if (end - begin >= bucket) {
      buckets_.push_back({layer, model.gradients() + begin, end - begin});
      end = begin;
    }
  }
  buckets_.push_back({-1, model.gradients(), end});
}

GradientExchange::~GradientExchange() {
  wait();
}

void GradientExchange::above_is_done(int64_t layer) {
  while (begun_ < buckets_.size() && buckets_[begun_].layer >= layer) {
    begin_next();
  }
}

void GradientExchange::finish() {
  while (begun_ < buckets_.size()) {
    begin_next();
  }
  wait();
  if (failure_) {
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void GradientExchange::begin_next() {
  const Bucket& bucket = buckets_[begun_++];
  try {
    running_.push_back(
        group_.begin_sum(std::span(bucket.values, static_cast<size_t>(bucket.count))));
  } catch (...) {
    failure_ = failure_ ? failure_ : std::current_exception();
  }
}

void GradientExchange::wait() {
  for (const auto& sum : std::exchange(running_, {})) {
    try {
      sum();
    } catch (...) {
      failure_ = failure_ ? failure_ : std::current_exception();
    }
  }
}

}  // namespace adze::train
