#pragma once
// model.json, which says what a model's folder holds. Of one GGUF file:
//   {"name": N, "file": F, "sha256": S, "bytes": B, "source": T}
// of a Hugging Face folder, whose files stand beside model.json:
//   {"name": N, "files": [{"path": P, "bytes": B, "sha256": S}, ...], "bytes": B, "source": T}

#include <filesystem>
#include <string>

#include "data/model_store.h"

namespace adze::data {

inline constexpr const char* kManifest = "model.json";

// Of the model in `folder`, its problem set where something is wrong: damaged, names files outside
// the folder, a file is missing or of another size.
StoredModel read_manifest(const std::filesystem::path& folder, const std::string& name);
// Whole or not at all. Throws core::Error: cannot write.
void write_manifest(const std::filesystem::path& folder, const StoredModel& model);

// What is wrong with the sizes of the files; empty: nothing.
std::string size_problem(const StoredModel& model);

}  // namespace adze::data
