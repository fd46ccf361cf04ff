#pragma once
// A folder that goes away with the test.

#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/check.h"

namespace adze::support {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "adze-test-XXXXXX").string();
    core::check(::mkdtemp(name.data()) != nullptr, "a new temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace adze::support
