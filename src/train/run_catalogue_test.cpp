#include "train/run_catalogue.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"

namespace adze::train {
namespace {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "adze-runs-XXXXXX").string();
    core::check(::mkdtemp(name.data()) != nullptr, "a folder");
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(RunCatalogue, KeepsOneEntryAFolder) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "below" / "runs.sqlite";
  RunCatalogue catalogue(file);
  EXPECT_TRUE(catalogue.runs().empty());
  catalogue.set(folder.path() / "a", "running", {{"steps", 3}}, nullptr);
  catalogue.set(folder.path() / "it's", "running", {{"name", "\"; DROP TABLE runs"}}, nullptr);
  catalogue.set(folder.path() / "a" / "", "finished", {{"steps", 3}}, {{"train_loss", 1.5}});
  const auto runs = RunCatalogue(file).runs();  // another opener sees it
  ASSERT_EQ(runs.size(), 2);
  EXPECT_EQ(runs[0].state, "finished");
  EXPECT_EQ(runs[0].summary.at("train_loss"), 1.5);
  EXPECT_EQ(runs[1].config.at("name"), "\"; DROP TABLE runs");
  EXPECT_TRUE(runs[1].summary.is_null());
  EXPECT_EQ(catalogue.find("2").folder, runs[1].folder);
  EXPECT_EQ(catalogue.find((folder.path() / "a").string()).number, 1);
  EXPECT_THROW(catalogue.find("3"), core::Error);
}

TEST(RunCatalogue, AFileThatIsNoneIsAnError) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "runs.sqlite";
  std::ofstream(file) << std::string(4096, 'x');
  EXPECT_THROW(RunCatalogue{file}, core::Error);
  EXPECT_THROW(RunCatalogue{folder.path()}, core::Error);
}

}  // namespace
}  // namespace adze::train
