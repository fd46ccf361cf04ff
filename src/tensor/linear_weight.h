#pragma once
// The weight of a linear layer, in whatever form it is stored: y [rows, outputs] = x [rows,
// columns] · Wᵀ (+ bias). A model holds these by shared ownership, so that adapters and tied layers
// share them.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor_type.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "tensor/aten.h"

namespace adze::tensor {

class LinearWeight : public std::enable_shared_from_this<LinearWeight> {
 public:
  virtual ~LinearWeight() = default;

  virtual at::Tensor apply(const at::Tensor& x) const = 0;
  // Rows of W as f32 [rows.size(), columns]: what an embedding looks up.
  virtual at::Tensor rows(std::span<const int64_t> rows) const = 0;

  virtual int64_t outputs() const = 0;
  virtual int64_t columns() const = 0;
  virtual int64_t bytes() const = 0;  // resident
  virtual core::TensorType type() const = 0;
  // The f32 matrix itself where it is dense, else undefined.
  virtual at::Tensor dense() const { return {}; }

  // What is trained, each with a requires_grad; none where the weight stays as it is.
  virtual std::vector<at::Tensor> leaves() const { return {}; }
  // The backward step of apply(). Adds to x_gradient (made where undefined) if that is wanted, to
  // .grad of the leaves, and appends to `rest` the gradient of each leaf that has no .grad, else an
  // undefined tensor. y_gradient [rows, outputs], contiguous.
  virtual void add_gradients(const at::Tensor& x,
                             const at::Tensor& y_gradient,
                             at::Tensor& x_gradient,
                             bool wants_x_gradient,
                             std::vector<at::Tensor>& rest) const = 0;
};
using LinearWeightPtr = std::shared_ptr<const LinearWeight>;

// Stored blocks in panels (kernels/packed_matmul): for inference. Throws core::Error where the type
// has no packed form or the columns are no multiple of 32.
// source_rows: `outputs` pointers to stored rows, in the order that the outputs shall have.
// bias: f32 [outputs], or empty. Types without codes (f32, f16, bf16) are multiplied in f32,
// whatever the arithmetic.
LinearWeightPtr make_packed_weight(core::TensorType type,
                                   int64_t columns,
                                   std::span<const std::byte* const> source_rows,
                                   kernels::Arithmetic arithmetic,
                                   std::vector<float> bias = {});

// An f32 tensor [outputs, columns] that may need a gradient: for training, and for devices other
// than the CPU. Without a gradient on the CPU it gives the bits of the packed f32 form. Where it
// and its bias (f32 [outputs], or undefined) have a .grad, the backward pass adds to that in place.
LinearWeightPtr make_dense_weight(at::Tensor weight, at::Tensor bias = {});

// Stored rows of a matrix of f32, f16 or bf16, at any address.
struct StoredRows {
  core::TensorType type;
  std::vector<const std::byte*> rows;
};

// The base, which is shared, plus a product of two narrow factors (LoRA: Hu et al.,
// arXiv:2106.09685): y = base(x) + scale · (x · downᵀ) · upᵀ, for inference. Both factors are
// multiplied in f32, whatever the base's arithmetic.
// down: `rank` >= 1 rows of base->columns() values; up: base->outputs() rows of `rank` values.
// bytes() is the base's and the factors'.
LinearWeightPtr make_low_rank_weight(LinearWeightPtr base,
                                     const StoredRows& down,
                                     const StoredRows& up,
                                     double scale);

// The same sum for training: down [rank, base->columns()] and up [base->outputs(), rank] are leaves
// with a .grad, the base is neither changed nor unpacked, but for a copy of one matrix at a time in
// the backward pass.
LinearWeightPtr make_trained_low_rank_weight(LinearWeightPtr base,
                                             at::Tensor down,
                                             at::Tensor up,
                                             double scale);

// Several weights over the same x; packed ones, and the first factors of
// low-rank ones, run in one parallel region; where anything is recorded, all share one backward
// step.
std::vector<at::Tensor> apply_together(std::initializer_list<const LinearWeight*> weights,
                                       const at::Tensor& x);

}  // namespace adze::tensor
