#pragma once
// Memory that is read from end to end for every token: weights and cache pages. With pages of 4 KiB
// an address translation would be due every few hundred cycles, so pieces are cut from regions of
// 2 MiB pages.

#include <cstddef>
#include <cstdint>
#include <memory>

namespace adze::core {

// 64-byte aligned, zero. What a piece held is given back to the system with it, to the 4 KiB page,
// and its place is used again. Where the system has no large pages these are ordinary ones. Throws
// std::bad_alloc.
std::shared_ptr<std::byte> allocate_huge(int64_t bytes);

}  // namespace adze::core
