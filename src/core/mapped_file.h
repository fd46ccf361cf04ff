#pragma once
// A file's bytes, mapped read-only. Reads past the end cannot happen through bytes(); a file that
// another process truncates while mapped raises SIGBUS, as with every memory-mapped reader.

#include <cstddef>
#include <filesystem>
#include <span>

namespace adze::core {

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);  // throws Error: missing, folder, no read
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace adze::core
