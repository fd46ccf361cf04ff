#include "data/hub_listing.h"

#include <random>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::data {
namespace {

const std::string kOid(40, 'a');
const std::string kSha256(64, 'b');

std::vector<HubFile> listing(const std::string& json) {
  std::vector<HubFile> files;
  append_listing(json, "list", files);
  return files;
}

TEST(HubListing, FilesAndFolders) {
  const auto files =
      listing(R"([{"type":"directory","oid":")" + kOid + R"(","size":0,"path":"onnx"},
                  {"type":"file","oid":")" +
              kOid + R"(","size":612,"path":"config.json"},
                  {"type":"file","oid":")" +
              kOid + R"(","size":134,"path":"sub/m.safetensors","xetHash":"x",
                   "lfs":{"oid":")" +
              kSha256 + R"(","size":90868376,"pointerSize":134}},
                  {"type":"file","size":0,"path":"empty","lfs":null},
                  {"type":"symlink","path":"../x"}])");
  ASSERT_EQ(files.size(), 3U);
  EXPECT_EQ(files[0].path, "config.json");
  EXPECT_EQ(files[0].bytes, 612);
  EXPECT_EQ(files[0].git_blob, kOid);
  EXPECT_EQ(files[0].sha256, "");
  EXPECT_EQ(files[1].path, "sub/m.safetensors");
  EXPECT_EQ(files[1].bytes, 90868376);
  EXPECT_EQ(files[1].git_blob, "");
  EXPECT_EQ(files[1].sha256, kSha256);
  EXPECT_EQ(files[2].bytes, 0);
  EXPECT_EQ(files[2].git_blob + files[2].sha256, "");
}

TEST(HubListing, Refusals) {
  const auto entry = [](const std::string& members) {
    return R"([{"type":"file",)" + members + "}]";
  };
  EXPECT_EQ(listing(entry(R"("path":"a","size":1000000000000000)")).size(), 1U);
  for (const std::string& json : {std::string(),
                                  std::string("nothing"),
                                  std::string("{}"),
                                  std::string("3"),
                                  std::string("[3]"),
                                  std::string("[null]"),
                                  std::string(100'000, '['),
                                  entry(R"("size":1)"),
                                  entry(R"("path":3,"size":1)"),
                                  entry(R"("path":"a")"),
                                  entry(R"("path":"a","size":-1)"),
                                  entry(R"("path":"a","size":1.5)"),
                                  entry(R"("path":"a","size":"1")"),
                                  entry(R"("path":"a","size":1000000000000001)"),
                                  entry(R"("path":"a","size":18446744073709551615)"),
                                  entry(R"("path":"a","size":99999999999999999999999)"),
                                  entry(R"("path":"../a","size":1)"),
                                  entry(R"("path":"/a","size":1)"),
                                  entry(R"("path":"a\\b","size":1)"),
                                  entry(R"("path":"a\u0000","size":1)"),
                                  entry(R"("path":"a","size":1,"oid":"AA")"),
                                  entry(R"("path":"a","size":1,"oid":")" + kSha256 + "\""),
                                  entry(R"("path":"a","lfs":{"oid":")" + kSha256 + R"("})"),
                                  entry(R"("path":"a","lfs":{"size":1,"oid":"x"})")}) {
    try {
      listing(json);
      ADD_FAILURE() << json.substr(0, 80);
    } catch (const core::Error& failure) {
      const std::string message = failure.what();
      EXPECT_NE(message.find("list"), std::string::npos) << message;
      EXPECT_EQ(message.find_first_of("\n\t\r\x1b"), std::string::npos) << message;
      EXPECT_LT(message.size(), 400U) << message;
    }
  }
}

TEST(HubListing, MoreFilesThanAnyRepositoryHas) {
  std::string page = "[";
  for (int i = 0; i < 1000; ++i) {
    page += fmt::format(R"({}{{"type":"file","path":"{}","size":1}})", i == 0 ? "" : ",", i);
  }
  page += "]";
  std::vector<HubFile> files;
  for (size_t i = 0; i < kMaxListedFiles / 1000; ++i) {
    append_listing(page, "list", files);
  }
  EXPECT_EQ(files.size(), kMaxListedFiles);
  EXPECT_THROW(append_listing(page, "list", files), core::Error);
}

TEST(HubListing, DamagedTextIsAListOrAnError) {
  const std::string whole = R"([{"type":"file","oid":")" + kOid +
                            R"(","size":612,"path":"a/config.json","lfs":{"oid":")" + kSha256 +
                            R"(","size":7}},{"type":"file","size":1,"path":"b"}])";
  std::mt19937 random(3);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = whole;
    for (uint32_t i = 0; i < 1 + random() % 3; ++i) {
      text[random() % text.size()] = static_cast<char>(random() % 256);
    }
    try {
      for (const HubFile& file : listing(text)) {
        EXPECT_TRUE(is_hub_path(file.path)) << text;
        EXPECT_GE(file.bytes, 0) << text;
      }
      ++accepted;
    } catch (const core::Error&) {
      continue;
    }
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace adze::data
