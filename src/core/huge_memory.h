#pragma once
// Memory for weights: read from end to end for every token, so that 4 KiB pages would cost an
// address translation every few hundred cycles. Pieces are cut from regions of 2 MiB pages.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace adze::core {

// 64-byte aligned, zero. A region goes back to the system when the last of its pieces is gone.
// Where the system has no large pages these are ordinary ones. Throws std::bad_alloc.
std::shared_ptr<std::byte> allocate_huge(int64_t bytes);

}  // namespace adze::core
