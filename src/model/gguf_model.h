#pragma once
// Models out of GGUF files.

#include <functional>

#include "formats/gguf.h"
#include "model/model.h"

namespace adze::model {

// Reads <architecture>.* metadata. Throws core::Error: unknown architecture (with the known ones),
// a missing key, a value out of range.
ModelSpec spec_from_gguf(const formats::GgufFile& file);

// Packs all weights (both cores; the file may be closed afterwards). Throws core::Error that names
// the tensor and what was expected.
ModelPtr load_gguf_model(const formats::GgufFile& file);

}  // namespace adze::model
