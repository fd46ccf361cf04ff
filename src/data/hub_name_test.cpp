#include "data/hub_name.h"

#include <gtest/gtest.h>

namespace adze::data {
namespace {

TEST(HubName, PartsAreFound) {
  const auto plain = parse_hub_name("Owner_1/Name-2.5B");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->repository, "Owner_1/Name-2.5B");
  EXPECT_EQ(plain->revision, "main");
  EXPECT_EQ(plain->file, "");
  EXPECT_EQ(plain->model(), "Name-2.5B");
  EXPECT_EQ(plain->text(), "Owner_1/Name-2.5B");

  const auto full = parse_hub_name("a/b@refs/pr/1:sub/x@y Q4_K_M.gguf");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->repository, "a/b");
  EXPECT_EQ(full->revision, "refs/pr/1");
  EXPECT_EQ(full->file, "sub/x@y Q4_K_M.gguf");
  EXPECT_EQ(full->text(), "a/b@refs/pr/1");

  EXPECT_EQ(parse_hub_name("a/b:Q4_0")->revision, "main");
  EXPECT_EQ(parse_hub_name("a/b@4f1d9")->file, "");
}

TEST(HubName, OtherFormsAreRefused) {
  for (const char* text :
       {"",       "a",       "/",      "a/",           "/b",         "a/b/c",     "a//b",
        "./b",    "../b",    "a/..",   "a/.b",         "-a/b",       "a/-b",      "a b/c",
        "a/b@",   "a/b:",    "a/b@:x", "a/b@..",       "a/b@/x",     "a/b@x/",    "a/b@x//y",
        "a/b@-x", "a/b@a b", "a/b:/x", "a/b:..",       "a/b:x/.",    "a/b:x\\y",  "a/b:x\ny",
        "a/b?x",  "a/b#x",   "a%2F/b", "http://h/a/b", "\xc3\xa9/b", "a/b@x:../y"}) {
    EXPECT_FALSE(parse_hub_name(text)) << text;
  }
  EXPECT_TRUE(parse_hub_name("a/" + std::string(100, 'b')));
  EXPECT_FALSE(parse_hub_name("a/" + std::string(101, 'b')));
  EXPECT_FALSE(parse_hub_name("a/b@" + std::string(201, 'b')));
}

TEST(HubName, PathsThatStayBelowTheirFolder) {
  for (const std::string& path : {std::string("a"),
                                  std::string("a/b/c.gguf"),
                                  std::string(".gitattributes"),
                                  std::string("..."),
                                  std::string("a b"),
                                  std::string("caf\xc3\xa9"),
                                  std::string(255, 'a')}) {
    EXPECT_TRUE(is_hub_path(path)) << path;
  }
  std::string deep = "a";
  for (int i = 0; i < 300; ++i) {
    deep += "/a";
  }
  for (const std::string& path : {std::string(),
                                  std::string("."),
                                  std::string(".."),
                                  std::string("/a"),
                                  std::string("a/"),
                                  std::string("a//b"),
                                  std::string("a/./b"),
                                  std::string("a/../b"),
                                  std::string("../a"),
                                  std::string("a/.."),
                                  std::string("a\\b"),
                                  std::string("a\nb"),
                                  std::string("a\0b", 3),
                                  std::string("\x1b[0m"),
                                  std::string("\x7f"),
                                  std::string("a\xc2\x9b"
                                              "31m"),
                                  std::string(256, 'a'),
                                  deep}) {
    EXPECT_FALSE(is_hub_path(path)) << path;
  }
}

TEST(HubName, UrlEscaping) {
  EXPECT_EQ(url_escaped("aZ09-._~"), "aZ09-._~");
  EXPECT_EQ(url_escaped("a/b c?#%\xc3\xa9"), "a%2Fb%20c%3F%23%25%C3%A9");
  EXPECT_EQ(url_escaped("a/b c", "/"), "a/b%20c");
}

}  // namespace
}  // namespace adze::data
