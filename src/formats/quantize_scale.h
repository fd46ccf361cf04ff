#pragma once
// Inside the encoders only.

#include <cstdint>

namespace adze::formats {

// Half-precision bits of a scale that a block cannot do without: infinity would turn the whole
// block into NaN. Throws core::Error beyond +-65504.
uint16_t scale_bits(float scale);

}  // namespace adze::formats
