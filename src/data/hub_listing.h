#pragma once
// The file list of a repository: an array of
//   {"type": "file", "path": P, "size": N, "oid": SHA1, "lfs": {"oid": SHA256, "size": N}}
// where "lfs" is there for large files only; entries of other types are folders.

#include <string_view>
#include <vector>

#include "data/hub_choice.h"

namespace adze::data {

inline constexpr size_t kMaxListedFiles = 100'000;

// Appends the files of one page. Throws core::Error that names `source`: not such a list, more than
// kMaxListedFiles in all, a path that is not is_hub_path, a size outside 0 to 1e15.
void append_listing(std::string_view json, std::string_view source, std::vector<HubFile>& files);

}  // namespace adze::data
