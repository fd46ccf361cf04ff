#include "tensor/cross_entropy.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scalar_tensor.h>

#include "core/check.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"
#include "tensor/operations.h"
#include "tensor/recording.h"

namespace adze::tensor {
namespace {

// Rows whose logits take some 16 MB: large enough for a product at full speed, small enough that
// they are still in a cache when they are read again.
int64_t rows_of_chunk(int64_t columns) {
  return std::clamp<int64_t>((int64_t{4} << 20) / columns, 64, 4096);
}

class Chunks {
 public:
  Chunks(const at::Tensor& hidden,
         const at::Tensor& weight,
         std::span<const int32_t> targets,
         const CrossEntropyOptions& options,
         bool recorded)
      : hidden_(hidden),
        weight_(weight),
        targets_(targets),
        options_(options),
        recorded_(recorded),
        losses_(targets.size()) {
    if (recorded && hidden.requires_grad()) {
      hidden_gradient_ = empty_floats(hidden.size(0), hidden.size(1));
    }
  }

  void run() {
    const int64_t rows = hidden_.size(0);
    const int64_t step = rows_of_chunk(weight_.size(0));
    at::Tensor buffer = empty_floats(std::min(step, rows), weight_.size(0));
    for (int64_t first = 0; first < rows; first += step) {
      run_chunk(first, std::min(step, rows - first), buffer);
    }
  }

  std::vector<float> take_losses() { return std::move(losses_); }
  const at::Tensor& hidden_gradient() const { return hidden_gradient_; }

 private:
  void run_chunk(int64_t first, int64_t count, const at::Tensor& buffer) {
    const at::Tensor rows = hidden_.narrow(0, first, count);
    at::Tensor logits = buffer.narrow(0, 0, count);
    at::mm_out(logits, rows, weight_.t());
    if (options_.softcap > 0) {
      logits.div_(options_.softcap).tanh_().mul_(options_.softcap);
    }
    const at::Tensor capped = recorded_ && options_.softcap > 0 ? logits.clone() : at::Tensor();
    float* losses = losses_.data() + first;
    kernels::softmax_cross_entropy_gradient({.logits = logits.mutable_data_ptr<float>(),
                                             .targets = targets_.data() + first,
                                             .rows = count,
                                             .columns = logits.size(1),
                                             .scale = static_cast<float>(options_.scale),
                                             .z_loss = static_cast<float>(options_.z_loss),
                                             .losses = losses});
    if (!recorded_) {
      return;
    }
    if (capped.defined()) {  // d cap tanh(x / cap) / dx = 1 - (y / cap)²
      logits.mul_(1 - (capped / options_.softcap).square_());
    }
    if (hidden_gradient_.defined()) {
      at::Tensor target = hidden_gradient_.narrow(0, first, count);
      at::mm_out(target, logits, weight_);
    }
    if (weight_.requires_grad()) {
      weight_.mutable_grad().addmm_(logits.t(), rows);
    }
  }

  const at::Tensor& hidden_;
  const at::Tensor& weight_;
  std::span<const int32_t> targets_;
  CrossEntropyOptions options_;
  bool recorded_;
  std::vector<float> losses_;
  at::Tensor hidden_gradient_;
};

}  // namespace

double CrossEntropy::sum() const {
  double total = 0;
  for (const float value : losses) {
    total += static_cast<double>(value);
  }
  return total;
}

CrossEntropy cross_entropy(const at::Tensor& hidden,
                           const LinearWeight& output,
                           std::span<const int32_t> targets,
                           const CrossEntropyOptions& options) {
  const at::Tensor weight = output.dense();
  core::check(weight.defined(), "a dense output layer");
  core::check(hidden.dim() == 2 && hidden.is_contiguous() && hidden.size(1) == weight.size(1) &&
                  std::cmp_equal(hidden.size(0), targets.size()),
              "a target for every hidden row");
  for (const int32_t target : targets) {
    core::check(target >= -1 && target < weight.size(0), "a target that is a token, got ", target);
  }
  const bool recorded = is_recorded({hidden, weight});
  core::check(!recorded || !weight.requires_grad() || weight.grad().defined(),
              "a .grad for the output weight's gradient");
  CrossEntropy result;
  at::Tensor hidden_gradient;
  {
    const at::NoGradGuard guard;
    Chunks chunks(hidden, weight, targets, options, recorded);
    chunks.run();
    result.losses = chunks.take_losses();
    hidden_gradient = chunks.hidden_gradient();
    result.loss = at::scalar_tensor(options.scale * result.sum(), at::kFloat);
  }
  if (hidden_gradient.defined()) {
    record({result.loss}, {hidden}, [hidden_gradient](const auto& gradients) {
      core::check(gradients[0].defined() && gradients[0].template item<float>() == 1.0F,
                  "a gradient of 1 for the loss");
      return std::vector{hidden_gradient};
    });
  }
  return result;
}

}  // namespace adze::tensor
