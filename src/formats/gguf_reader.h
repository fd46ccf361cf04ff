#pragma once
// The bytes of a GGUF file -> its contents, checked. Callers want GgufFile (gguf.h).

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf.h"

namespace adze::formats {

struct GgufContents {
  std::map<std::string, GgufValue> metadata;
  std::vector<StoredTensor> tensors;  // their data points into the bytes that were read
  std::vector<uint32_t> by_name;      // indices into tensors, sorted by name
};

// `file` is what errors call the file.
GgufContents read_gguf(std::span<const std::byte> bytes, const std::string& file);

}  // namespace adze::formats
