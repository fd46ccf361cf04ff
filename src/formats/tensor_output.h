#pragma once
// A tensor on its way into a file: what it is called, and a function that makes its bytes when the
// writer asks for them, so that a model larger than memory can be written.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/tensor_type.h"
#include "formats/stored_tensor.h"

namespace adze::formats {

struct TensorOutput {
  std::string name;
  core::TensorType type;
  std::vector<int64_t> shape;  // outermost first; whole blocks in the last
  // Called once, with as many bytes as output_bytes() says. A writer holds one tensor at a time
  // and may ask for the tensors in an order of its own.
  std::function<void(std::span<std::byte> target)> fill;
};

// Bytes of a tensor's rows; a scalar (no dimensions) is one value. A dimension below 0, columns
// that are not whole blocks or a size beyond 2^63 are faults of the caller (core::CheckFailure).
uint64_t output_bytes(const TensorOutput& tensor);

// The tensor unchanged. Its bytes are read when the writer asks for them: they must live until
// then.
TensorOutput copy_of(const StoredTensor& tensor);

// The tensor's bytes, for the writers: calls fill with a buffer of the right size.
std::vector<std::byte> filled_bytes(const TensorOutput& tensor);

}  // namespace adze::formats
