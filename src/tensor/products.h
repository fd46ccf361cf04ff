#pragma once
// Products of f32 matrices that training is made of: ours on a CPU, libtorch's elsewhere. Either
// argument may be a transposed view. Nothing is recorded.

#include "tensor/aten.h"

namespace adze::tensor {

at::Tensor product(const at::Tensor& a, const at::Tensor& b);                           // a · b
void product_into(const at::Tensor& target, const at::Tensor& a, const at::Tensor& b);  // = a · b
void add_product(const at::Tensor& target, const at::Tensor& a, const at::Tensor& b);   // += a · b

}  // namespace adze::tensor
