#include "formats/sha256.h"

#include <filesystem>
#include <string_view>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/error.h"

namespace adze::formats {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The examples that come with FIPS 180-4, and its empty message.
TEST(Sha256, KnownDigests) {
  EXPECT_EQ(sha256({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256(bytes_of("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(bytes_of(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, FilesAgreeWithTheirBytes) {
  const auto path =
      std::filesystem::temp_directory_path() / ("adze-sha256-" + std::to_string(::getpid()));
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1} << 20, (size_t{1} << 20) + 1}) {
    const std::string text(size, 'x');
    core::AtomicFile file(path);
    file.write(text);
    file.commit();
    EXPECT_EQ(sha256_file(path), sha256(bytes_of(text))) << size;
  }
  std::filesystem::remove(path);
}

TEST(Sha256, UnreadableFilesAreErrors) {
  EXPECT_THROW(sha256_file("/nonexistent"), core::Error);
  EXPECT_THROW(sha256_file("/tmp"), core::Error);
}

}  // namespace
}  // namespace adze::formats
