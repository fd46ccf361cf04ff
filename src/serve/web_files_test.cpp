#include "serve/web_files.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "serve/web_files_table.h"

namespace adze::serve {
namespace {

// Tests run in the repository root.
std::string file_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(WebFiles, HoldsThePageTheInterfaceAndTheLibrariesAndNothingElse) {
  std::set<std::string> expected = {
      "/openapi.json", "/web/vendor/marked.js", "/web/vendor/purify.js"};
  const auto check = [&](const std::string& path, const std::filesystem::path& source) {
    const WebFile* found = find_web_file(path);
    ASSERT_NE(found, nullptr) << path;
    EXPECT_TRUE(found->body == file_bytes(source)) << path;
    expected.insert(path);
  };
  for (const auto& entry : std::filesystem::directory_iterator("web")) {
    const std::string name = entry.path().filename().string();
    check(name == "index.html" ? "/" : "/web/" + name, entry.path());
  }
  check("/openapi.json", "src/serve/openapi.json");
  std::set<std::string> held;
  for (const WebFile& file : web_files()) {
    held.emplace(file.path);
  }
  EXPECT_EQ(held, expected);
}

TEST(WebFiles, NamesTypesAndDistinctQuotedTags) {
  EXPECT_EQ(find_web_file("/")->content_type, "text/html; charset=utf-8");
  EXPECT_EQ(find_web_file("/web/main.js")->content_type, "text/javascript; charset=utf-8");
  std::set<std::string_view> tags;
  for (const WebFile& file : web_files()) {
    EXPECT_EQ(file.etag.size(), 34) << file.path;
    EXPECT_TRUE(file.etag.starts_with('"') && file.etag.ends_with('"')) << file.path;
    tags.insert(file.etag);
  }
  EXPECT_EQ(tags.size(), web_files().size());
}

TEST(WebFiles, FindsOnlyWholeNames) {
  for (const char* path :
       {"", "/web", "/web/", "/web/index.html", "/web/../web/main.js", "/web/main.js?"}) {
    EXPECT_EQ(find_web_file(path), nullptr) << path;
  }
}

}  // namespace
}  // namespace adze::serve
