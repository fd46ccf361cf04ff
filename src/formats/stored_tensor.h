#pragma once
// A tensor as it lies in a file, whatever the format.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/tensor_type.h"

namespace adze::formats {

struct StoredTensor {
  std::string name;
  core::TensorType type;
  std::vector<int64_t> shape;       // outermost first, as PyTorch: [rows, columns]
  std::span<const std::byte> data;  // row-major blocks, inside bytes that another owns
};

}  // namespace adze::formats
