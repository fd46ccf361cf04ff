#pragma once
// The two checksums of a hub, over bytes as they come: SHA-256 of the content, and the name that
// git gives it, SHA-1 of "blob SIZE", a zero byte and the content (git book, "Git Internals").

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "data/hub_choice.h"

namespace adze::data {

struct DigestResult {
  std::string sha256;   // 64 lower-case hexadecimal digits
  std::string problem;  // what contradicts the file's stated checksums; empty: nothing does
};

class FileDigest {
 public:
  explicit FileDigest(const HubFile& file);  // its size, which the git name begins with
  ~FileDigest();
  FileDigest(FileDigest&&) noexcept;
  FileDigest& operator=(FileDigest&&) noexcept;

  void update(std::span<const std::byte> bytes);
  DigestResult finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Whether the file at `path` has the size and the checksums that `file` states; false where it
// states none. `sha256` gets the checksum of a file that matches. Reads all of it.
bool matches(const std::filesystem::path& path, const HubFile& file, std::string& sha256);

}  // namespace adze::data
