#include "train/run_folder.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"

namespace adze::train {
namespace {

namespace fs = std::filesystem;

// Of a run with a state of eight bytes.
class RunFolderTest : public testing::Test {
 protected:
  RunFolderTest() {
    std::string name = (fs::temp_directory_path() / "adze-run-XXXXXX").string();
    core::check(::mkdtemp(name.data()) != nullptr, "a folder");
    path_ = name;
  }
  ~RunFolderTest() override { fs::remove_all(path_); }

  void save(int64_t step, int64_t keep) {
    RunFolder(path_, true).save_checkpoint(step, {{"step", step}}, parts(), keep);
  }
  // The step; -1: there is no checkpoint.
  int64_t load() {
    const auto info =
        RunFolder(path_, true).load_checkpoint(parts(), [&](std::string_view) { ++damaged_; });
    return info ? info->at("step").get<int64_t>() : -1;
  }
  std::vector<std::string> checkpoints() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  void damage(const std::string& checkpoint) const {
    write("checkpoints/" + checkpoint + "/values.bin", "12345678");
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream stream(path_ / name);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  fs::path path_;
  int damaged_ = 0;

 private:
  std::vector<RunFolder::Part> parts() { return {{"values.bin", {std::span(state_)}}}; }

  std::byte state_[8] = {};
};

TEST_F(RunFolderTest, KeepsTheNewestCheckpoints) {
  for (const int64_t step : {5, 10, 15}) {
    save(step, 2);
  }
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-0000000010", "step-0000000015"}));
  EXPECT_EQ(load(), 15);
}

TEST_F(RunFolderTest, ADamagedCheckpointTakesNoPlaceOfANewOne) {
  for (const int64_t step : {5, 10, 15}) {
    save(step, 3);
  }
  damage("step-0000000015");
  EXPECT_EQ(load(), 10);
  EXPECT_EQ(damaged_, 1);
  save(12, 1);
  EXPECT_EQ(checkpoints(), std::vector<std::string>{"step-0000000012"});
  EXPECT_EQ(load(), 12);
}

TEST_F(RunFolderTest, DamagedCheckpointsAloneAreAnError) {
  EXPECT_EQ(load(), -1);
  save(5, 1);
  damage("step-0000000005");
  EXPECT_THROW(load(), core::Error);
}

TEST_F(RunFolderTest, GoesOnInTheFolderOfARunAlone) {
  EXPECT_NO_THROW(check_folder(path_ / "none", true));
  EXPECT_NO_THROW(check_folder(path_, true));
  write("metrics.jsonl", "");
  write("config.json.partial-1-0", "");
  EXPECT_NO_THROW(check_folder(path_, true));
  write("note.txt", "mine");
  EXPECT_THROW(check_folder(path_, true), core::Error);
  write("config.json", R"({"model_type": "llama"})");
  EXPECT_THROW(RunFolder(path_, true), core::Error);
  EXPECT_EQ(read("config.json"), R"({"model_type": "llama"})");
  EXPECT_FALSE(fs::exists(path_ / "checkpoints"));
  write("config.json", R"({"step-tokens": 8192})");
  EXPECT_NO_THROW(check_folder(path_, true));
}

}  // namespace
}  // namespace adze::train
