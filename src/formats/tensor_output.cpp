#include "formats/tensor_output.h"

#include <algorithm>

#include "core/check.h"

namespace adze::formats {

uint64_t output_bytes(const TensorOutput& tensor) {
  const auto& type = core::info(tensor.type);
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  core::check(columns >= 0 && columns % type.block_elements == 0,
              tensor.name,
              " has ",
              columns,
              " columns, not whole blocks");
  int64_t bytes = core::row_bytes(tensor.type, columns);
  for (size_t axis = 0; axis + 1 < tensor.shape.size(); ++axis) {
    const int64_t dimension = tensor.shape[axis];
    core::check(dimension >= 0 && !__builtin_mul_overflow(bytes, dimension, &bytes),
                tensor.name,
                " has dimension ",
                dimension);
  }
  return static_cast<uint64_t>(bytes);
}

TensorOutput copy_of(const StoredTensor& tensor) {
  return {
      tensor.name, tensor.type, tensor.shape, [data = tensor.data](auto target) {
        core::check(
            target.size() == data.size(), target.size(), " bytes asked, ", data.size(), " there");
        std::ranges::copy(data, target.begin());
      }};
}

std::vector<std::byte> filled_bytes(const TensorOutput& tensor) {
  std::vector<std::byte> bytes(output_bytes(tensor));
  tensor.fill(bytes);
  return bytes;
}

}  // namespace adze::formats
