#include "data/model_store.h"

#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/gguf.h"
#include "formats/sha256.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

const std::string kContent = "the model's bytes";

class ModelStoreTest : public testing::Test {
 protected:
  ModelStoreTest()
      : base_(fs::temp_directory_path() / fmt::format("adze-store-{}", ::getpid())),
        root_(base_ / "models") {
    fs::remove_all(base_);
    fs::create_directories(base_);
    entry_ = {.name = "tiny",
              .package = "package",
              .version = "1",
              .member = "inside/tiny.gguf",
              .sha256 = formats::sha256(std::as_bytes(std::span(kContent))),
              .bytes = static_cast<int64_t>(kContent.size())};
  }
  ~ModelStoreTest() override { fs::remove_all(base_); }

  // A store whose network delivers `content`; counts the fetches.
  ModelStore store(const std::string& content = kContent) {
    return {root_, {entry_}, [this, content](const CatalogueEntry& entry, const fs::path& folder) {
              ++fetches_;
              write_text(folder / entry.file(), content);
            }};
  }
  ModelStore offline() {
    return {root_, {entry_}, [](const CatalogueEntry&, const fs::path&) {
              throw core::error("pull", "no network");
            }};
  }
  static StoredModel pull(const ModelStore& models,
                          std::string_view argument,
                          std::string_view name = "") {
    return models.pull(argument, name, [](std::string_view) {});
  }
  static void expect_error(const std::function<void()>& action,
                           const std::vector<std::string>& parts) {
    try {
      action();
      ADD_FAILURE() << "no error";
    } catch (const core::Error& failure) {
      const std::string message = failure.what();
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
      for (const std::string& part : parts) {
        EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
      }
    }
  }
  fs::path write_model(const std::string& file) {
    formats::write_gguf(base_ / file, {{"general.architecture", std::string("llama")}}, {});
    return base_ / file;
  }

  fs::path base_;
  fs::path root_;
  CatalogueEntry entry_;
  int fetches_ = 0;
};

TEST_F(ModelStoreTest, EmptyStoreListsNothing) {
  EXPECT_TRUE(store().list().empty());
  EXPECT_FALSE(store().find("tiny").has_value());
}

TEST_F(ModelStoreTest, PullFetchesOnceAndThenWorksOffline) {
  const StoredModel model = pull(store(), "tiny");
  EXPECT_EQ(model.path, root_ / "tiny" / "tiny.gguf");
  EXPECT_EQ(read_text(model.path), kContent);
  EXPECT_EQ(pull(offline(), "tiny").path, model.path);
  EXPECT_EQ(fetches_, 1);
  ASSERT_EQ(offline().list().size(), 1U);
  EXPECT_EQ(offline().list()[0].sha256, entry_.sha256);
  EXPECT_EQ(offline().list()[0].source, "PyPI package 1");
  EXPECT_EQ(offline().resolve("tiny"), model.path);
  // Nothing but the model's folder is left.
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), fs::directory_iterator()), 1);
}

TEST_F(ModelStoreTest, PullAdoptsAFileWithoutManifest) {
  write_text(root_ / "tiny" / "tiny.gguf", kContent);
  EXPECT_EQ(offline().resolve("tiny"), root_ / "tiny" / "tiny.gguf");
  EXPECT_FALSE(fs::exists(root_ / "tiny" / "model.json"));
  pull(offline(), "tiny");
  EXPECT_TRUE(fs::exists(root_ / "tiny" / "model.json"));
  EXPECT_EQ(offline().list().size(), 1U);
}

TEST_F(ModelStoreTest, PullReplacesADamagedFile) {
  std::string damaged = kContent;
  damaged[3] = 'X';
  write_text(root_ / "tiny" / "tiny.gguf", damaged);
  EXPECT_EQ(read_text(pull(store(), "tiny").path), kContent);
  EXPECT_EQ(fetches_, 1);
}

TEST_F(ModelStoreTest, PullRepairsADamagedManifest) {
  pull(store(), "tiny");
  write_text(root_ / "tiny" / "model.json", "{");
  EXPECT_FALSE(store().find("tiny")->problem.empty());
  expect_error([&] { store().resolve("tiny"); }, {"tiny", "model.json", "adze pull"});
  pull(offline(), "tiny");
  EXPECT_TRUE(offline().find("tiny")->problem.empty());
}

TEST_F(ModelStoreTest, PullRefusesWhatDoesNotMatchTheChecksum) {
  std::string wrong = kContent;
  wrong[0] = 'X';
  expect_error([&] { pull(store(wrong), "tiny"); }, {"sha256", entry_.sha256});
  expect_error([&] { pull(store("short"), "tiny"); }, {"5 bytes"});
  EXPECT_FALSE(store().find("tiny").has_value());
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(ModelStoreTest, FailedFetchLeavesNothing) {
  expect_error([&] { pull(offline(), "tiny"); }, {"no network"});
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST_F(ModelStoreTest, PullLinksALocalFile) {
  const fs::path file = write_model("My model (v2).Q4.gguf");
  const StoredModel model = pull(offline(), file.string());
  EXPECT_EQ(model.name, "My-model--v2-.Q4");
  EXPECT_TRUE(fs::equivalent(model.path, file));
  EXPECT_EQ(model.sha256, formats::sha256_file(file));
  EXPECT_EQ(offline().resolve(model.name), model.path);
  EXPECT_NO_THROW(pull(offline(), file.string()));  // again: the same
  EXPECT_NO_THROW(pull(offline(), model.name));     // by its name: verified
  EXPECT_EQ(pull(offline(), file.string(), "other").name, "other");
  EXPECT_EQ(offline().list().size(), 2U);
  offline().remove(model.name);
  EXPECT_TRUE(fs::exists(file));
  EXPECT_EQ(offline().list().size(), 1U);
}

TEST_F(ModelStoreTest, PullRefusesOtherFilesAndTakenNames) {
  write_text(base_ / "notes.txt", "not a model");
  expect_error([&] { pull(offline(), (base_ / "notes.txt").string()); }, {"notes.txt"});
  const fs::path file = write_model("a.gguf");
  expect_error([&] { pull(offline(), file.string(), "tiny"); }, {"tiny", "--name"});
  expect_error([&] { pull(offline(), file.string(), "../x"); }, {"../x"});
  pull(offline(), file.string(), "mine");
  formats::write_gguf(base_ / "b.gguf", {{"general.architecture", std::string("other")}}, {});
  expect_error([&] { pull(offline(), (base_ / "b.gguf").string(), "mine"); }, {"mine", "a.gguf"});
  expect_error([&] { pull(offline(), "tini"); }, {"tini", "did you mean tiny"});
}

TEST_F(ModelStoreTest, ResolveNamesWhatIsHereAndHowToGetMore) {
  expect_error([&] { store().resolve("tiny"); }, {"none", "adze pull tiny"});
  pull(store(), "tiny");
  expect_error([&] { store().resolve("tinny"); }, {"here (tiny)", "did you mean tiny?"});
  expect_error([&] { store().resolve("no/such"); }, {"no/such", "does not exist"});
  expect_error([&] { store().resolve("such.gguf"); }, {"such.gguf", "does not exist"});
  expect_error([&] { store().resolve(base_.string()); }, {"is a folder"});
  expect_error([&] { store().resolve(""); }, {"nothing"});
  write_text(base_ / "file", "x");
  EXPECT_EQ(store().resolve((base_ / "file").string()), base_ / "file");
}

TEST_F(ModelStoreTest, TruncatedFileIsAProblem) {
  const StoredModel model = pull(store(), "tiny");
  fs::resize_file(model.path, 3);
  expect_error([&] { store().resolve("tiny"); }, {"tiny", "3 bytes", "expected 17"});
  EXPECT_NE(store().list().at(0).problem, "");
  expect_error([&] { store().verify(model); }, {"3 bytes"});
}

TEST_F(ModelStoreTest, NamesNeverLeaveTheRoot) {
  write_text(base_ / "outside" / "model.json", "{}");
  for (const char* name : {"..",
                           ".",
                           "",
                           "../outside",
                           "a/b",
                           "/etc",
                           "-x",
                           ".hidden",
                           "a b",
                           "a\nb",
                           "caf\xc3\xa9"}) {
    EXPECT_FALSE(is_model_name(name)) << name;
    EXPECT_FALSE(store().find(name).has_value()) << name;
    EXPECT_THROW(store().remove(name), core::Error) << name;
  }
  EXPECT_TRUE(fs::exists(base_ / "outside" / "model.json"));
  write_text(
      root_ / "evil" / "model.json",
      R"({"name":"evil","file":"../../outside/model.json","sha256":"","bytes":2,"source":""})");
  EXPECT_NE(store().find("evil")->problem, "");
  EXPECT_THROW(store().resolve("evil"), core::Error);
}

TEST_F(ModelStoreTest, RemoveForgetsTheModel) {
  pull(store(), "tiny");
  store().remove("tiny");
  EXPECT_TRUE(store().list().empty());
  EXPECT_FALSE(fs::exists(root_ / "tiny"));
  expect_error([&] { store().remove("tiny"); }, {"tiny"});
}

TEST(ModelCatalogue, EntriesAreWellFormed) {
  for (const CatalogueEntry& entry : model_catalogue()) {
    EXPECT_TRUE(is_model_name(entry.name));
    EXPECT_EQ(entry.sha256.size(), 64U);
    EXPECT_GT(entry.bytes, 0);
    EXPECT_TRUE(entry.file().ends_with(".gguf"));
  }
}

}  // namespace
}  // namespace adze::data
