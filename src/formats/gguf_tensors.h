#pragma once
// The part of a GGUF file behind the metadata: names, shapes, types and places of the tensors.

#include <cstdint>

#include "formats/gguf_cursor.h"
#include "formats/gguf_reader.h"

namespace adze::formats {

// Smallest tensor header: name, number of dimensions, one dimension, type, offset.
inline constexpr uint64_t kGgufMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// cursor: behind the metadata. Fills contents.tensors and contents.by_name.
void read_gguf_tensors(GgufCursor& cursor,
                       uint64_t count,
                       uint64_t alignment,
                       GgufContents& contents);

}  // namespace adze::formats
