#pragma once

#include <cstddef>
#include <span>

namespace adze::core {

// Writes all bytes to an open file, however many calls that takes. False where it cannot; errno
// then says why.
bool write_all(int descriptor, std::span<const std::byte> bytes);

}  // namespace adze::core
