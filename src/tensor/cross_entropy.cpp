#include "tensor/cross_entropy.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>

#include "core/check.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"
#include "tensor/operations.h"
#include "tensor/products.h"
#include "tensor/recording.h"

namespace adze::tensor {
namespace {

// Rows whose logits take some 16 MB: large enough for a product at full speed, small enough that
// they are still in a cache when they are read again.
int64_t rows_of_chunk(int64_t columns) {
  return std::clamp<int64_t>((int64_t{4} << 20) / columns, 64, 4096);
}

// Of an output layer that is not dense, so many rows are unpacked at once for hidden gradients.
constexpr int64_t kUnpackedRows = 4096;

class Chunks {
 public:
  Chunks(const at::Tensor& hidden,
         const LinearWeight& output,
         std::span<const int32_t> targets,
         const CrossEntropyOptions& options,
         bool recorded)
      : hidden_(hidden),
        output_(output),
        weight_(output.dense()),
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
    const int64_t columns = output_.outputs();
    // Unpacking a layer costs as much as some hundred rows of its product.
    const int64_t step = rows_of_chunk(columns) * (weight_.defined() ? 1 : 4);
    at::Tensor buffer =
        weight_.defined() ? empty_floats(std::min(step, rows), columns) : at::Tensor();
    for (int64_t first = 0; first < rows; first += step) {
      run_chunk(first, std::min(step, rows - first), buffer);
    }
  }

  std::vector<float> take_losses() { return std::move(losses_); }
  const at::Tensor& hidden_gradient() const { return hidden_gradient_; }

 private:
  void run_chunk(int64_t first, int64_t count, const at::Tensor& buffer) {
    const at::Tensor rows = hidden_.narrow(0, first, count);
    at::Tensor logits = weight_.defined() ? buffer.narrow(0, 0, count) : output_.apply(rows);
    if (weight_.defined()) {
      product_into(logits, rows, weight_.t());
    }
    if (options_.softcap > 0) {
      logits.div_(options_.softcap).tanh_().mul_(options_.softcap);
    }
    float* losses = losses_.data() + first;
    if (!recorded_) {
      kernels::softmax_cross_entropy(
          logits.const_data_ptr<float>(), targets_.data() + first, count, logits.size(1), losses);
      return;
    }
    const at::Tensor capped = options_.softcap > 0 ? logits.clone() : at::Tensor();
    kernels::softmax_cross_entropy_gradient({.logits = logits.mutable_data_ptr<float>(),
                                             .targets = targets_.data() + first,
                                             .rows = count,
                                             .columns = logits.size(1),
                                             .scale = static_cast<float>(options_.scale),
                                             .z_loss = static_cast<float>(options_.z_loss),
                                             .losses = losses});
    if (capped.defined()) {  // d cap tanh(x / cap) / dx = 1 - (y / cap)²
      logits.mul_(1 - (capped / options_.softcap).square_());
    }
    if (hidden_gradient_.defined()) {
      add_hidden_gradient(logits, hidden_gradient_.narrow(0, first, count));
    }
    if (weight_.defined() && weight_.requires_grad()) {
      add_product(weight_.grad(), logits.t(), rows);
    }
  }

  void add_hidden_gradient(const at::Tensor& logits, const at::Tensor& target) const {
    if (weight_.defined()) {
      product_into(target, logits, weight_);
      return;
    }
    for (int64_t first = 0; first < logits.size(1); first += kUnpackedRows) {
      const int64_t count = std::min(kUnpackedRows, logits.size(1) - first);
      std::vector<int64_t> ids(static_cast<size_t>(count));
      std::iota(ids.begin(), ids.end(), first);
      const at::Tensor part = logits.narrow(1, first, count);
      if (first == 0) {
        product_into(target, part, output_.rows(ids));
      } else {
        add_product(target, part, output_.rows(ids));
      }
    }
  }

  const at::Tensor& hidden_;
  const LinearWeight& output_;
  at::Tensor weight_;  // undefined where the output layer is not dense
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
  core::check(hidden.dim() == 2 && hidden.is_contiguous() && hidden.size(1) == output.columns() &&
                  std::cmp_equal(hidden.size(0), targets.size()),
              "a target for every hidden row");
  for (const int32_t target : targets) {
    core::check(
        target >= -1 && target < output.outputs(), "a target that is a token, got ", target);
  }
  const bool recorded = is_recorded({hidden, weight});
  core::check(!recorded || !weight.defined() || !weight.requires_grad() || weight.grad().defined(),
              "a .grad for the output weight's gradient");
  CrossEntropy result;
  at::Tensor hidden_gradient;
  {
    const at::NoGradGuard guard;
    Chunks chunks(hidden, output, targets, options, recorded);
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
