#include "data/hub_part.h"

#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/sha256.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_text(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class PartFileTest : public testing::Test {
 protected:
  PartFileTest()
      : folder_(fs::temp_directory_path() / fmt::format("adze-part-{}", ::getpid())),
        target_(folder_ / "sub/file") {
    fs::remove_all(folder_);
    file_ = {.path = "file",
             .bytes = static_cast<int64_t>(kText.size()),
             .sha256 = formats::sha256(bytes_of(kText)),
             .git_blob = ""};
  }
  ~PartFileTest() override { fs::remove_all(folder_); }

  void leave(std::string_view text, const std::string& tag) {
    PartFile part(target_, file_);
    part.begin(0, tag);
    part.append(bytes_of(text));
  }
  bool empty() const {
    return !fs::exists(folder_ / "sub/file.part") && !fs::exists(folder_ / "sub/file.part.json");
  }

  const std::string kText = "all of the file's text";
  fs::path folder_;
  fs::path target_;
  HubFile file_;
};

TEST_F(PartFileTest, WholeInOneGo) {
  PartFile part(target_, file_);
  EXPECT_EQ(part.size(), 0);
  part.begin(0, "\"tag\"");
  part.append(bytes_of(kText));
  EXPECT_FALSE(fs::exists(target_));
  EXPECT_EQ(part.finish(), file_.sha256);
  EXPECT_EQ(read_text(target_), kText);
  EXPECT_TRUE(empty());
}

TEST_F(PartFileTest, AnyCutsMakeTheSameFile) {
  std::mt19937 random(5);
  for (int round = 0; round < 30; ++round) {
    fs::remove(target_);
    int64_t done = 0;
    while (done < file_.bytes) {
      PartFile part(target_, file_);
      EXPECT_EQ(part.size(), done);
      EXPECT_EQ(part.entity_tag(), done == 0 ? "" : "\"tag\"");
      if (random() % 4 == 0) {
        done = 0;
      }
      part.begin(done, "\"tag\"");
      const auto count = std::min<int64_t>(1 + random() % 12, file_.bytes - done);
      part.append(bytes_of(kText).subspan(static_cast<size_t>(done), static_cast<size_t>(count)));
      done += count;
    }
    EXPECT_EQ(PartFile(target_, file_).finish(), file_.sha256);
    EXPECT_EQ(read_text(target_), kText);
  }
}

TEST_F(PartFileTest, PartsOfOtherContentAreDropped) {
  leave("all of", "\"tag\"");
  EXPECT_EQ(PartFile(target_, file_).size(), 6);
  HubFile other = file_;
  other.sha256[0] = other.sha256[0] == '0' ? '1' : '0';
  EXPECT_EQ(PartFile(target_, other).size(), 0);
  EXPECT_EQ(part_size(target_), 0);

  leave("all of", "\"tag\"");
  other = file_;
  other.bytes += 1;
  EXPECT_EQ(PartFile(target_, other).size(), 0);

  for (const char* record : {"", "{", "[]", "{}", R"({"checksum": 3})"}) {
    leave("all of", "\"tag\"");
    write_text(folder_ / "sub/file.part.json", record);
    EXPECT_EQ(PartFile(target_, file_).size(), 0) << record;
  }
  leave("all of", "\"tag\"");
  write_text(folder_ / "sub/file.part", kText + "and more");
  EXPECT_EQ(PartFile(target_, file_).size(), 0);
}

TEST_F(PartFileTest, WithoutAChecksumTheEntityTagDecides) {
  file_.sha256.clear();
  leave("all of", "\"tag\"");
  EXPECT_EQ(PartFile(target_, file_).size(), 6);
  EXPECT_EQ(PartFile(target_, file_).entity_tag(), "\"tag\"");
  leave("all of", "");
  EXPECT_EQ(PartFile(target_, file_).size(), 0);
}

TEST_F(PartFileTest, WrongContentIsRemoved) {
  std::string wrong = kText;
  wrong[3] = 'X';
  {
    PartFile part(target_, file_);
    part.begin(0, "");
    part.append(bytes_of(wrong));
    try {
      part.finish();
      ADD_FAILURE() << "no error";
    } catch (const core::Error& failure) {
      EXPECT_NE(std::string(failure.what()).find(file_.sha256), std::string::npos);
    }
  }
  EXPECT_TRUE(empty());
  EXPECT_FALSE(fs::exists(target_));
}

TEST_F(PartFileTest, GitNamesAreChecked) {
  // From git hash-object.
  file_ = {.path = "file",
           .bytes = 6,
           .sha256 = "",
           .git_blob = "ce013625030ba8dba906f756967f9e9ca394464a"};
  leave("hello\n", "");
  EXPECT_EQ(PartFile(target_, file_).finish(), formats::sha256(bytes_of("hello\n")));
  leave("hellx\n", "");
  EXPECT_THROW(PartFile(target_, file_).finish(), core::Error);
  std::string sha256;
  EXPECT_TRUE(matches(target_, file_, sha256));
  EXPECT_EQ(sha256, formats::sha256(bytes_of("hello\n")));
  write_text(target_, "hallo\n");
  EXPECT_FALSE(matches(target_, file_, sha256));
  write_text(target_, "hello");
  EXPECT_FALSE(matches(target_, file_, sha256));
  EXPECT_FALSE(matches(folder_, file_, sha256));
  EXPECT_FALSE(matches(folder_ / "none", file_, sha256));
  // Nothing is known of its content: no match.
  write_text(target_, "hello\n");
  file_.git_blob.clear();
  EXPECT_FALSE(matches(target_, file_, sha256));
}

TEST_F(PartFileTest, NeitherMoreNorLessNorElsewhere) {
  PartFile part(target_, file_);
  part.begin(0, "");
  EXPECT_THROW(part.append(bytes_of(kText + "x")), core::Error);
  part.append(bytes_of("all"));
  EXPECT_THROW(part.finish(), core::Error);
  EXPECT_THROW(part.begin(2, ""), core::Error);
  EXPECT_THROW(part.begin(4, ""), core::Error);
  EXPECT_THROW(part.begin(-1, ""), core::Error);
  EXPECT_NO_THROW(part.begin(3, ""));
}

TEST_F(PartFileTest, LinksAreNotFollowed) {
  fs::create_directories(folder_ / "sub");
  write_text(folder_ / "precious", "precious");
  fs::create_symlink(folder_ / "precious", folder_ / "sub/file.part");
  EXPECT_THROW(PartFile(target_, file_), core::Error);
  EXPECT_EQ(read_text(folder_ / "precious"), "precious");
}

TEST_F(PartFileTest, EmptyFile) {
  file_ = {.path = "file",
           .bytes = 0,
           .sha256 = "",
           .git_blob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"};
  EXPECT_EQ(PartFile(target_, file_).finish(), formats::sha256({}));
  EXPECT_EQ(fs::file_size(target_), 0U);
}

}  // namespace
}  // namespace adze::data
