#pragma once
// The bytes of one safetensors file -> its tensors, checked. Callers want SafetensorsFolder
// (safetensors.h).

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/safetensors.h"
#include "formats/stored_tensor.h"

namespace adze::formats {

struct SafetensorsContents {
  std::map<std::string, std::string> metadata;
  std::vector<StoredTensor> tensors;  // their data points into the bytes that were read, in order
  std::vector<SkippedTensor> skipped;
};

// `file` is what errors call the file.
SafetensorsContents read_safetensors(std::span<const std::byte> bytes, const std::string& file);

}  // namespace adze::formats
