#pragma once
// The narrowest libtorch header that declares at::Tensor. Other layers include this, never
// libtorch.
// IWYU pragma: begin_exports
#include <ATen/core/Tensor.h>
// IWYU pragma: end_exports
