#include "core/atomic_file.h"

#include <fstream>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

namespace adze::core {
namespace {

namespace fs = std::filesystem;

class AtomicFileTest : public testing::Test {
 protected:
  AtomicFileTest()
      : folder_(fs::temp_directory_path() / fmt::format("adze-atomic-{}", ::getpid())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~AtomicFileTest() override { fs::remove_all(folder_); }

  std::string read(const fs::path& path) const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  int64_t files() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  }

  fs::path folder_;
};

TEST_F(AtomicFileTest, CommitMakesTheWholeFile) {
  AtomicFile file(folder_ / "a");
  file.write(std::string_view("one "));
  file.write(std::string_view("two"));
  EXPECT_FALSE(fs::exists(folder_ / "a"));
  file.commit();
  EXPECT_EQ(read(folder_ / "a"), "one two");
  EXPECT_EQ(files(), 1);
}

TEST_F(AtomicFileTest, WithoutCommitTheOldFileStays) {
  std::ofstream(folder_ / "a") << "old";
  {
    AtomicFile file(folder_ / "a");
    file.write(std::string_view("new"));
  }
  EXPECT_EQ(read(folder_ / "a"), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(AtomicFileTest, TwoWritersOfOneFileDoNotMix) {
  AtomicFile first(folder_ / "a");
  AtomicFile second(folder_ / "a");
  first.write(std::string_view("first"));
  second.write(std::string_view("2nd"));
  first.commit();
  EXPECT_EQ(read(folder_ / "a"), "first");
  second.commit();
  EXPECT_EQ(read(folder_ / "a"), "2nd");
  EXPECT_EQ(files(), 1);
}

TEST_F(AtomicFileTest, MissingFolderIsAnErrorThatNamesTheTarget) {
  try {
    AtomicFile file(folder_ / "no" / "a");
    FAIL();
  } catch (const Error& failure) {
    EXPECT_NE(std::string(failure.what()).find("no/a"), std::string::npos);
  }
}

// A limit on file sizes makes write() fail as a full disk does.
TEST_F(AtomicFileTest, FullDiskIsAnErrorAndLeavesTheOldFile) {
  std::ofstream(folder_ / "a") << "old";
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    AtomicFile file(folder_ / "a");
    file.write(std::string(5000, 'x'));
    file.commit();
  } catch (const Error& failure) {
    message = failure.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find((folder_ / "a").string()), std::string::npos) << message;
  EXPECT_EQ(read(folder_ / "a"), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(AtomicFileTest, TargetThatIsAFolderIsAnErrorAndLeavesNothing) {
  fs::create_directories(folder_ / "a" / "b");
  EXPECT_THROW(AtomicFile(folder_ / "a"), Error);
  EXPECT_EQ(files(), 1);
}

TEST_F(AtomicFileTest, DevicesAreRefusedAndLinksStayLinks) {
  fs::create_directories(folder_);
  fs::create_symlink("/dev/full", folder_ / "device");
  EXPECT_THROW(AtomicFile(folder_ / "device"), Error);
  EXPECT_TRUE(fs::is_character_file(folder_ / "device"));
  std::ofstream(folder_ / "target") << "old";
  fs::create_symlink(folder_ / "target", folder_ / "link");
  {
    AtomicFile file(folder_ / "link");
    file.write(std::string_view("x"));
    file.commit();
  }
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read(folder_ / "target"), "x");
}

}  // namespace
}  // namespace adze::core
