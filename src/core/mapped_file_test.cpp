#include "core/mapped_file.h"

#include <fstream>
#include <utility>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace adze::core {
namespace {

namespace fs = std::filesystem;

class MappedFileTest : public testing::Test {
 protected:
  MappedFileTest() : path_(fs::temp_directory_path() / fmt::format("adze-mapped-{}", ::getpid())) {}
  ~MappedFileTest() override { fs::remove(path_); }

  static std::string text(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }

  fs::path path_;
};

TEST_F(MappedFileTest, ShowsTheBytes) {
  std::ofstream(path_) << "some bytes";
  MappedFile file(path_);
  EXPECT_EQ(text(file), "some bytes");
  EXPECT_EQ(file.path(), path_);
  const MappedFile moved(std::move(file));
  EXPECT_EQ(text(moved), "some bytes");
}

TEST_F(MappedFileTest, EmptyFileHasNoBytes) {
  std::ofstream(path_) << "";
  EXPECT_TRUE(MappedFile(path_).bytes().empty());
}

TEST_F(MappedFileTest, RefusesWhatIsNotARegularFile) {
  EXPECT_THROW(MappedFile("/no/such/file"), Error);
  EXPECT_THROW(MappedFile(fs::temp_directory_path()), Error);
  EXPECT_THROW(MappedFile("/dev/null"), Error);
}

// Opening a pipe that nobody writes to must not wait.
TEST_F(MappedFileTest, RefusesAPipeAtOnce) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THROW(MappedFile{path_}, Error);
}

}  // namespace
}  // namespace adze::core
