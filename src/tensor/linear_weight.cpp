#include "tensor/linear_weight.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros_like.h>

#include "core/check.h"
#include "core/error.h"
#include "core/huge_memory.h"
#include "core/parallel.h"
#include "tensor/operations.h"
#include "tensor/products.h"
#include "tensor/recording.h"

namespace adze::tensor {
namespace {

using kernels::kPanelRows;

std::vector<int64_t> numbers_below(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return numbers;
}

// gradient += a · b, or = where there is none yet.
void add_product_to(at::Tensor& gradient, const at::Tensor& a, const at::Tensor& b) {
  if (gradient.defined()) {
    add_product(gradient, a, b);
  } else {
    gradient = product(a, b);
  }
}

// Panels from pointers to stored rows.
std::shared_ptr<std::byte> pack_panels(core::TensorType type,
                                       int64_t columns,
                                       std::span<const std::byte* const> source_rows) {
  const auto outputs = static_cast<int64_t>(source_rows.size());
  const int64_t panel_bytes = kernels::packed_bytes(type, kPanelRows, columns);
  auto panels = core::allocate_huge(kernels::packed_bytes(type, outputs, columns));
  std::byte* target = panels.get();
  core::parallel_for((outputs + kPanelRows - 1) / kPanelRows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      std::array<const std::byte*, kPanelRows> rows{};
      for (int64_t lane = 0; lane < std::min(kPanelRows, outputs - panel * kPanelRows); ++lane) {
        rows[static_cast<size_t>(lane)] =
            source_rows[static_cast<size_t>(panel * kPanelRows + lane)];
      }
      kernels::pack_panel(type, columns, rows, target + panel * panel_bytes);
    }
  });
  return panels;
}

void add_bias(const std::vector<float>& bias, const at::Tensor& rows) {
  auto* y = rows.mutable_data_ptr<float>();
  for (int64_t row = 0; row < rows.size(0); ++row) {
    for (const float value : bias) {
      *y++ += value;
    }
  }
}

class PackedWeight : public LinearWeight {
 public:
  PackedWeight(core::TensorType type,
               int64_t outputs,
               int64_t columns,
               std::shared_ptr<const std::byte> panels,
               kernels::Arithmetic arithmetic,
               std::vector<float> bias)
      : panels_(std::move(panels)),
        bias_(std::move(bias)),
        matrix_{type, outputs, columns, panels_.get(), arithmetic} {}

  at::Tensor apply(const at::Tensor& x) const override { return apply_together({this}, x)[0]; }

  at::Tensor rows(std::span<const int64_t> rows) const override {
    at::Tensor result = empty_floats(static_cast<int64_t>(rows.size()), matrix_.columns);
    float* target = result.mutable_data_ptr<float>();
    for (const int64_t row : rows) {
      core::check(row >= 0 && row < matrix_.outputs, "row within ", matrix_.outputs, ", got ", row);
      kernels::unpack_row(matrix_, row, target);
      target += matrix_.columns;
    }
    return result;
  }

  void add_gradients(const at::Tensor& /*x*/,
                     const at::Tensor& y_gradient,
                     at::Tensor& x_gradient,
                     bool wants_x_gradient,
                     std::vector<at::Tensor>& /*rest*/) const override {
    if (wants_x_gradient) {
      add_product_to(x_gradient, y_gradient, rows(numbers_below(matrix_.outputs)));
    }
  }

  int64_t outputs() const override { return matrix_.outputs; }
  int64_t columns() const override { return matrix_.columns; }
  int64_t bytes() const override {
    return kernels::packed_bytes(matrix_.type, matrix_.outputs, matrix_.columns) +
           static_cast<int64_t>(bias_.size() * sizeof(float));
  }
  core::TensorType type() const override { return matrix_.type; }
  const kernels::PackedMatrix& matrix() const { return matrix_; }
  const std::vector<float>& bias() const { return bias_; }

 private:
  std::shared_ptr<const std::byte> panels_;
  std::vector<float> bias_;
  kernels::PackedMatrix matrix_;
};

// What the rows of an embedding's gradient add up to; columns are shared out, rows stay in order.
void add_rows(const at::Tensor& target, std::span<const int64_t> rows, const at::Tensor& gradient) {
  const int64_t columns = target.size(1);
  auto* sums = target.mutable_data_ptr<float>();
  const auto* source = gradient.const_data_ptr<float>();
  core::parallel_for(columns, 64, [&](int64_t begin, int64_t end) {
    const float* values = source;
    for (const int64_t row : rows) {
      float* sum = sums + row * columns;
      for (int64_t column = begin; column < end; ++column) {
        sum[column] += values[column];
      }
      values += columns;
    }
  });
}

class DenseWeight : public LinearWeight {
 public:
  DenseWeight(at::Tensor weight, at::Tensor bias)
      : weight_(std::move(weight)), bias_(std::move(bias)) {}

  at::Tensor apply(const at::Tensor& x) const override { return apply_together({this}, x)[0]; }

  std::vector<at::Tensor> leaves() const override {
    std::vector<at::Tensor> trained;
    for (const at::Tensor& tensor : {weight_, bias_}) {
      if (tensor.defined() && tensor.requires_grad()) {
        trained.push_back(tensor);
      }
    }
    return trained;
  }

  // Without recording. A matrix that is not trained gives the bits of its packed form.
  at::Tensor multiply(const at::Tensor& x) const {
    if (weight_.is_cpu() && !weight_.requires_grad()) {
      return packed().apply(x);  // packing costs as much as one row of product
    }
    const at::NoGradGuard guard;
    at::Tensor y = product(x, weight_.t());
    if (bias_.defined()) {
      y.add_(bias_);
    }
    return y;
  }

  void add_gradients(const at::Tensor& x,
                     const at::Tensor& y_gradient,
                     at::Tensor& x_gradient,
                     bool wants_x_gradient,
                     std::vector<at::Tensor>& rest) const override {
    if (wants_x_gradient) {
      add_product_to(x_gradient, y_gradient, weight_);
    }
    if (weight_.requires_grad() && weight_.grad().defined()) {
      add_product(weight_.grad(), y_gradient.t(), x);
      rest.emplace_back();
    } else if (weight_.requires_grad()) {
      rest.push_back(product(y_gradient.t(), x));
    }
    if (bias_.defined() && bias_.requires_grad()) {
      rest.push_back(add_to_leaf(bias_, y_gradient.sum(0)));
    }
  }

  at::Tensor rows(std::span<const int64_t> rows) const override {
    if (!is_recorded({weight_})) {
      return at::index_select(weight_.detach(), 0, from_integers(rows).to(weight_.device()));
    }
    at::Tensor y = [&] {
      const at::NoGradGuard guard;
      return at::index_select(weight_, 0, from_integers(rows));
    }();
    record({y},
           {weight_},
           [weight = weight_, ids = std::vector(rows.begin(), rows.end())](const auto& gradients) {
             const bool in_place = weight.grad().defined();
             const at::Tensor target = in_place ? weight.mutable_grad() : at::zeros_like(weight);
             if (gradients[0].defined()) {
               add_rows(target, ids, gradients[0].contiguous());
             }
             return std::vector{in_place ? at::Tensor() : target};
           });
    return y;
  }

  int64_t outputs() const override { return weight_.size(0); }
  int64_t columns() const override { return weight_.size(1); }
  int64_t bytes() const override {
    return static_cast<int64_t>(weight_.nbytes() + (bias_.defined() ? bias_.nbytes() : 0));
  }
  core::TensorType type() const override { return core::TensorType::kF32; }
  at::Tensor dense() const override { return weight_; }
  const at::Tensor& weight() const { return weight_; }
  const at::Tensor& bias() const { return bias_; }

 private:
  PackedWeight packed() const {
    const at::Tensor contiguous = weight_.contiguous();
    std::vector<const std::byte*> rows;
    for (int64_t row = 0; row < outputs(); ++row) {
      rows.push_back(
          reinterpret_cast<const std::byte*>(contiguous.const_data_ptr<float>() + row * columns()));
    }
    std::vector<float> bias;
    if (bias_.defined()) {
      bias.assign(bias_.const_data_ptr<float>(), bias_.const_data_ptr<float>() + outputs());
    }
    return {core::TensorType::kF32,
            outputs(),
            columns(),
            pack_panels(core::TensorType::kF32, columns(), rows),
            kernels::Arithmetic::kF32,
            std::move(bias)};
  }

  at::Tensor weight_;  // [outputs, columns] f32
  at::Tensor bias_;    // [outputs] f32, or undefined
};

class LowRankWeight : public LinearWeight {
 public:
  LowRankWeight(LinearWeightPtr base, PackedWeight down, PackedWeight up, double scale)
      : base_(std::move(base)), down_(std::move(down)), up_(std::move(up)), scale_(scale) {}

  at::Tensor apply(const at::Tensor& x) const override { return apply_together({this}, x)[0]; }

  at::Tensor rows(std::span<const int64_t> rows) const override {
    at::Tensor result = base_->rows(rows);
    const at::Tensor narrow = up_.rows(rows);  // [rows.size(), padded rank]
    const std::vector<int64_t> ranks = numbers_below(down_.outputs());
    const at::Tensor wide = down_.rows(ranks);  // [rank, columns]
    const auto scale = static_cast<float>(scale_);
    for (int64_t row = 0; row < result.size(0); ++row) {
      float* y = result.mutable_data_ptr<float>() + row * columns();
      for (const int64_t k : ranks) {
        const float factor = scale * narrow.const_data_ptr<float>()[row * up_.columns() + k];
        const float* x = wide.const_data_ptr<float>() + k * columns();
        for (int64_t column = 0; column < columns(); ++column) {
          y[column] += factor * x[column];
        }
      }
    }
    return result;
  }

  // x · downᵀ goes to the first columns of this [rows, padded rank]; the rest is zero.
  at::Tensor empty_narrow(int64_t rows) const {
    at::Tensor narrow = empty_floats(rows, up_.columns());
    std::fill_n(narrow.mutable_data_ptr<float>(), narrow.numel(), 0.0F);
    return narrow;
  }
  void add_to(at::Tensor y, const at::Tensor& narrow) const { add(y, up_.apply(narrow), scale_); }

  void add_gradients(const at::Tensor& /*x*/,
                     const at::Tensor& /*y_gradient*/,
                     at::Tensor& /*x_gradient*/,
                     bool /*wants_x_gradient*/,
                     std::vector<at::Tensor>& /*rest*/) const override {
    core::check(false, "a low-rank weight that is trained");
  }

  int64_t outputs() const override { return base_->outputs(); }
  int64_t columns() const override { return base_->columns(); }
  int64_t bytes() const override { return base_->bytes() + down_.bytes() + up_.bytes(); }
  core::TensorType type() const override { return base_->type(); }
  const LinearWeight* base() const { return base_.get(); }
  const kernels::PackedMatrix& down() const { return down_.matrix(); }

 private:
  LinearWeightPtr base_;
  PackedWeight down_;  // [rank, columns]
  PackedWeight up_;    // [outputs, padded rank]
  double scale_;
};

class TrainedLowRankWeight : public LinearWeight {
 public:
  TrainedLowRankWeight(LinearWeightPtr base, at::Tensor down, at::Tensor up, double scale)
      : base_(std::move(base)), down_(std::move(down)), up_(std::move(up)), scale_(scale) {}

  at::Tensor apply(const at::Tensor& x) const override { return apply_together({this}, x)[0]; }

  at::Tensor rows(std::span<const int64_t> rows) const override {
    const at::NoGradGuard guard;
    at::Tensor result = base_->rows(rows);
    add_product(result, at::index_select(up_, 0, from_integers(rows)).mul_(scale_), down_);
    return result;
  }

  // What the factors add to base(x). [arXiv:2106.09685, equation 3]
  void add_to(const at::Tensor& y, const at::Tensor& x) const {
    const at::NoGradGuard guard;
    add_product(y, narrow(x), up_.t());
  }

  void add_gradients(const at::Tensor& x,
                     const at::Tensor& y_gradient,
                     at::Tensor& x_gradient,
                     bool wants_x_gradient,
                     std::vector<at::Tensor>& rest) const override {
    const at::Tensor narrow_gradient = product(y_gradient, up_).mul_(scale_);
    add_product(down_.grad(), narrow_gradient.t(), x);
    add_product(up_.grad(), y_gradient.t(), narrow(x));
    rest.resize(rest.size() + 2);
    if (wants_x_gradient) {
      std::vector<at::Tensor> none;
      base_->add_gradients(x, y_gradient, x_gradient, true, none);
      add_product(x_gradient, narrow_gradient, down_);
    }
  }

  std::vector<at::Tensor> leaves() const override { return {down_, up_}; }
  int64_t outputs() const override { return base_->outputs(); }
  int64_t columns() const override { return base_->columns(); }
  int64_t bytes() const override {
    return base_->bytes() + static_cast<int64_t>(down_.nbytes() + up_.nbytes());
  }
  core::TensorType type() const override { return base_->type(); }
  const LinearWeight* base() const { return base_.get(); }

 private:
  at::Tensor narrow(const at::Tensor& x) const { return product(x, down_.t()).mul_(scale_); }

  LinearWeightPtr base_;
  at::Tensor down_;  // [rank, columns]
  at::Tensor up_;    // [outputs, rank]
  double scale_;
};

// The plain products, and one backward step for all.
std::vector<at::Tensor> recorded_products(std::initializer_list<const LinearWeight*> weights,
                                          const at::Tensor& x) {
  std::vector<at::Tensor> inputs = {x};
  std::vector<LinearWeightPtr> kept;
  for (const LinearWeight* weight : weights) {
    const std::vector<at::Tensor> leaves = weight->leaves();
    inputs.insert(inputs.end(), leaves.begin(), leaves.end());
    kept.push_back(weight->shared_from_this());
  }
  const std::vector<at::Tensor> outputs = [&] {
    const at::NoGradGuard guard;
    return apply_together(weights, x);
  }();
  record(outputs, inputs, [kept, x](const std::vector<at::Tensor>& gradients) {
    at::Tensor of_x;
    std::vector<at::Tensor> of_inputs(1);
    for (size_t i = 0; i < kept.size(); ++i) {
      if (gradients[i].defined()) {
        kept[i]->add_gradients(x, gradients[i].contiguous(), of_x, x.requires_grad(), of_inputs);
      } else {
        of_inputs.resize(of_inputs.size() + kept[i]->leaves().size());
      }
    }
    of_inputs[0] = of_x;
    return of_inputs;
  });
  return outputs;
}

PackedWeight pack_floats(const StoredRows& stored, int64_t columns) {
  core::check(!kernels::has_int8_products(stored.type), "f32, f16 or bf16");
  return {stored.type,
          static_cast<int64_t>(stored.rows.size()),
          columns,
          pack_panels(stored.type, columns, stored.rows),
          kernels::Arithmetic::kF32,
          {}};
}

}  // namespace

LinearWeightPtr make_packed_weight(core::TensorType type,
                                   int64_t columns,
                                   std::span<const std::byte* const> source_rows,
                                   kernels::Arithmetic arithmetic,
                                   std::vector<float> bias) {
  core::check(bias.empty() || bias.size() == source_rows.size(), "a bias for every output");
  if (!kernels::has_packed_form(type)) {
    throw core::error("weight", "type {} has no packed form", core::info(type).name);
  }
  const int64_t multiple = std::max<int64_t>(32, core::info(type).block_elements);
  if (columns % multiple != 0) {
    throw core::error("weight", "expected columns in multiples of {}, got {}", multiple, columns);
  }
  return std::make_shared<PackedWeight>(
      type,
      static_cast<int64_t>(source_rows.size()),
      columns,
      pack_panels(type, columns, source_rows),
      kernels::has_int8_products(type) ? arithmetic : kernels::Arithmetic::kF32,
      std::move(bias));
}

LinearWeightPtr make_dense_weight(at::Tensor weight, at::Tensor bias) {
  core::check(weight.dim() == 2 && weight.scalar_type() == at::kFloat, "an f32 matrix");
  core::check(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0) &&
                                  bias.scalar_type() == at::kFloat),
              "an f32 bias for every output");
  return std::make_shared<DenseWeight>(std::move(weight), std::move(bias));
}

LinearWeightPtr make_low_rank_weight(LinearWeightPtr base,
                                     const StoredRows& down,
                                     const StoredRows& up,
                                     double scale) {
  const auto rank = static_cast<int64_t>(down.rows.size());
  core::check(rank >= 1 && std::cmp_equal(up.rows.size(), base->outputs()),
              "a rank of 1 or more and a row of up for every output");
  // The product wants columns in multiples of 32: zeros add nothing.
  const int64_t padded_rank = (rank + 31) / 32 * 32;
  const auto row_bytes = static_cast<size_t>(core::row_bytes(up.type, rank));
  const auto padded_bytes = static_cast<size_t>(core::row_bytes(up.type, padded_rank));
  std::vector<std::byte> padded(up.rows.size() * padded_bytes);
  StoredRows padded_up{up.type, {}};
  for (const std::byte* row : up.rows) {
    std::byte* target = padded.data() + padded_up.rows.size() * padded_bytes;
    std::memcpy(target, row, row_bytes);
    padded_up.rows.push_back(target);
  }
  PackedWeight packed_down = pack_floats(down, base->columns());
  return std::make_shared<LowRankWeight>(
      std::move(base), std::move(packed_down), pack_floats(padded_up, padded_rank), scale);
}

LinearWeightPtr make_trained_low_rank_weight(LinearWeightPtr base,
                                             at::Tensor down,
                                             at::Tensor up,
                                             double scale) {
  core::check(down.grad().defined() && up.grad().defined() && down.size(0) == up.size(1) &&
                  down.size(1) == base->columns() && up.size(0) == base->outputs(),
              "factors of the base's shape, with a .grad");
  return std::make_shared<TrainedLowRankWeight>(
      std::move(base), std::move(down), std::move(up), scale);
}

std::vector<at::Tensor> apply_together(std::initializer_list<const LinearWeight*> weights,
                                       const at::Tensor& x) {
  if (at::GradMode::is_enabled() &&
      (x.requires_grad() ||
       std::any_of(weights.begin(), weights.end(), [](const LinearWeight* weight) {
         return !weight->leaves().empty();
       }))) {
    return recorded_products(weights, x);
  }
  struct Part {
    const LowRankWeight* low_rank;        // null where the weight has another form
    const TrainedLowRankWeight* trained;  // null where the weight has another form
    const PackedWeight* packed;  // the weight, or the low-rank one's base; null where dense
    at::Tensor y;                // [rows, outputs]
    at::Tensor narrow;           // of a low-rank weight
  };
  std::vector<Part> parts;
  std::vector<kernels::MatmulOutput> outputs;
  std::vector<kernels::MatmulOutput> narrow_outputs;
  parts.reserve(weights.size());
  outputs.reserve(2 * weights.size());
  for (const LinearWeight* weight : weights) {
    const auto* low_rank = dynamic_cast<const LowRankWeight*>(weight);
    const auto* trained = dynamic_cast<const TrainedLowRankWeight*>(weight);
    if (low_rank != nullptr) {
      weight = low_rank->base();
    } else if (trained != nullptr) {
      weight = trained->base();
    }
    Part& part = parts.emplace_back(Part{
        low_rank, trained, dynamic_cast<const PackedWeight*>(weight), at::Tensor(), at::Tensor()});
    if (part.packed == nullptr) {
      part.y = dynamic_cast<const DenseWeight&>(*weight).multiply(x);
    } else {
      part.y = empty_floats(x.size(0), weight->outputs());
      outputs.push_back(
          {part.packed->matrix(), part.y.mutable_data_ptr<float>(), weight->outputs()});
    }
    if (low_rank != nullptr) {
      part.narrow = low_rank->empty_narrow(x.size(0));
      narrow_outputs.push_back(
          {low_rank->down(), part.narrow.mutable_data_ptr<float>(), part.narrow.size(1)});
    }
  }
  // Neighbours of one arithmetic share a region, so the factors stand together.
  outputs.insert(outputs.end(), narrow_outputs.begin(), narrow_outputs.end());
  if (!outputs.empty()) {
    core::check(x.dim() == 2 && x.is_contiguous() && x.scalar_type() == at::kFloat,
                "contiguous f32 rows");
    kernels::packed_matmul(x.const_data_ptr<float>(), x.size(0), x.size(1), outputs);
  }
  std::vector<at::Tensor> results;
  results.reserve(parts.size());
  for (const Part& part : parts) {
    if (part.packed != nullptr && !part.packed->bias().empty()) {
      add_bias(part.packed->bias(), part.y);
    }
    if (part.low_rank != nullptr) {
      part.low_rank->add_to(part.y, part.narrow);
    }
    if (part.trained != nullptr) {
      part.trained->add_to(part.y, x);
    }
    results.push_back(part.y);
  }
  return results;
}

}  // namespace adze::tensor
