#include "tensor/linear_weight.h"

#include <algorithm>
#include <array>
#include <utility>

#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>

#include "core/check.h"
#include "core/error.h"
#include "core/huge_memory.h"
#include "core/parallel.h"
#include "tensor/operations.h"

namespace adze::tensor {
namespace {

using kernels::kPanelRows;

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

class DenseWeight : public LinearWeight {
 public:
  explicit DenseWeight(at::Tensor weight) : weight_(std::move(weight)) {}

  at::Tensor apply(const at::Tensor& x) const override {
    if (!weight_.is_cpu() || weight_.requires_grad() || x.requires_grad()) {
      return at::linear(x, weight_);
    }
    // NOTE: a library product gives other bits at other row counts and thread counts, so inference
    // packs and uses ours. Packing costs as much as one row of product.
    return packed().apply(x);
  }

  at::Tensor rows(std::span<const int64_t> rows) const override {
    return at::index_select(weight_, 0, from_integers(rows).to(weight_.device()));
  }

  int64_t outputs() const override { return weight_.size(0); }
  int64_t columns() const override { return weight_.size(1); }
  int64_t bytes() const override { return static_cast<int64_t>(weight_.nbytes()); }
  core::TensorType type() const override { return core::TensorType::kF32; }

 private:
  PackedWeight packed() const {
    const at::Tensor contiguous = weight_.contiguous();
    std::vector<const std::byte*> rows;
    for (int64_t row = 0; row < outputs(); ++row) {
      rows.push_back(
          reinterpret_cast<const std::byte*>(contiguous.const_data_ptr<float>() + row * columns()));
    }
    return {core::TensorType::kF32,
            outputs(),
            columns(),
            pack_panels(core::TensorType::kF32, columns(), rows),
            kernels::Arithmetic::kF32,
            {}};
  }

  at::Tensor weight_;  // [outputs, columns] f32
};

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

LinearWeightPtr make_dense_weight(at::Tensor weight) {
  core::check(weight.dim() == 2 && weight.scalar_type() == at::kFloat, "an f32 matrix");
  return std::make_shared<DenseWeight>(std::move(weight));
}

std::vector<at::Tensor> apply_together(std::initializer_list<const LinearWeight*> weights,
                                       const at::Tensor& x) {
  std::vector<at::Tensor> results;
  std::vector<kernels::MatmulOutput> outputs;
  results.reserve(weights.size());
  outputs.reserve(weights.size());
  for (const LinearWeight* weight : weights) {
    const auto* packed = dynamic_cast<const PackedWeight*>(weight);
    if (packed == nullptr) {
      results.push_back(weight->apply(x));
      continue;
    }
    results.push_back(empty_floats(x.size(0), weight->outputs()));
    outputs.push_back(
        {packed->matrix(), results.back().mutable_data_ptr<float>(), weight->outputs()});
  }
  if (!outputs.empty()) {
    core::check(x.dim() == 2 && x.is_contiguous() && x.scalar_type() == at::kFloat,
                "contiguous f32 rows");
    kernels::packed_matmul(x.const_data_ptr<float>(), x.size(0), x.size(1), outputs);
  }
  size_t index = 0;
  for (const LinearWeight* weight : weights) {
    const auto* packed = dynamic_cast<const PackedWeight*>(weight);
    if (packed != nullptr && !packed->bias().empty()) {
      add_bias(packed->bias(), results[index]);
    }
    ++index;
  }
  return results;
}

}  // namespace adze::tensor
