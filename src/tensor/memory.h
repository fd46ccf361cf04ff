#pragma once

namespace adze::tensor {

// From here on memory of tensors that are gone is kept for the next ones, in large pages. A step of
// training allocates the same few hundred tensors again and again, hundreds of MB in all; given
// back each time, the system would have to clear every page anew.
void reuse_tensor_memory();

}  // namespace adze::tensor
