#include "tensor/products.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "core/check.h"
#include "kernels/dense_matmul/dense_matmul.h"
#include "tensor/operations.h"

namespace adze::tensor {
namespace {

kernels::MatrixView view_of(const at::Tensor& matrix) {
  return {matrix.const_data_ptr<float>(), matrix.stride(0), matrix.stride(1)};
}

void multiply(const at::Tensor& target, const at::Tensor& a, const at::Tensor& b, bool adds) {
  core::check(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) &&
                  target.size(0) == a.size(0) && target.size(1) == b.size(1),
              "matrices that fit");
  if (!target.is_cpu()) {
    const at::NoGradGuard guard;
    at::Tensor sums = target;
    adds ? sums.addmm_(a, b) : at::mm_out(sums, a, b);
    return;
  }
  core::check(target.stride(1) == 1, "a target stored by rows");
  kernels::dense_matmul({.a = view_of(a),
                         .b = view_of(b),
                         .c = target.mutable_data_ptr<float>(),
                         .c_stride = target.stride(0),
                         .rows = a.size(0),
                         .columns = b.size(1),
                         .depth = a.size(1),
                         .adds = adds});
}

}  // namespace

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor target = a.is_cpu() ? empty_floats(a.size(0), b.size(1))
                                 : at::empty({a.size(0), b.size(1)}, a.options());
  multiply(target, a, b, false);
  return target;
}

void product_into(const at::Tensor& target, const at::Tensor& a, const at::Tensor& b) {
  multiply(target, a, b, false);
}

void add_product(const at::Tensor& target, const at::Tensor& a, const at::Tensor& b) {
  multiply(target, a, b, true);
}

}  // namespace adze::tensor
