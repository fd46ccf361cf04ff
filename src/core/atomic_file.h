#pragma once
// Writes that are either complete or absent: a temporary file beside the target, fsync, rename.

#include <cstddef>
#include <filesystem>
#include <functional>
#include <ostream>
#include <span>
#include <string>

namespace adze::core {

class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);  // throws Error
  ~AtomicFile();                                             // without commit(): target untouched
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);  // throws Error (full disk) naming the target
  void write(std::string_view text);
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

}  // namespace adze::core
