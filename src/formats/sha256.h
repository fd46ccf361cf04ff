#pragma once
// SHA-256 (FIPS 180-4) as 64 lower-case hexadecimal digits.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace adze::formats {

// Of bytes that come in parts.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  std::string finish();  // once

 private:
  std::shared_ptr<void> context_;
};

std::string sha256(std::span<const std::byte> bytes);
std::string sha256_file(const std::filesystem::path& path);  // throws core::Error: cannot read

}  // namespace adze::formats
