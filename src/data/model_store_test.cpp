#include "data/model_store.h"

#include <algorithm>
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
              .files = {catalogue_file("tiny.gguf", kContent)}};
    folder_entry_ = {.name = "folder",
                     .package = "package",
                     .version = "2",
                     .files = {catalogue_file("config.json", "{}"),
                               catalogue_file("1_Pooling/config.json", "{ }")}};
  }
  ~ModelStoreTest() override { fs::remove_all(base_); }

  static CatalogueFile catalogue_file(const std::string& path, const std::string& content) {
    return {.member = "inside/" + path,
            .path = path,
            .sha256 = formats::sha256(std::as_bytes(std::span(content))),
            .bytes = static_cast<int64_t>(content.size())};
  }
  // A store whose network delivers `content`; counts the fetches.
  ModelStore store(const std::string& content = kContent) {
    return {root_,
            {entry_, folder_entry_},
            [this, content](const CatalogueEntry& entry, const fs::path& folder) {
              ++fetches_;
              if (entry.is_folder()) {
                write_text(folder / "config.json", "{}");
                write_text(folder / "1_Pooling/config.json", "{ }");
              } else {
                write_text(folder / entry.files[0].path, content);
              }
            }};
  }
  ModelStore offline() {
    return {root_, {entry_, folder_entry_}, [](const CatalogueEntry&, const fs::path&) {
              throw core::error("pull", "no network");
            }};
  }
  static StoredModel pull(const ModelStore& models,
                          std::string_view argument,
                          std::string_view name = "") {
    PullRequest request;
    request.argument = argument;
    request.name = name;
    return models.pull(request);
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
  CatalogueEntry folder_entry_;
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
  EXPECT_EQ(offline().list()[0].files[0].sha256, entry_.files[0].sha256);
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
  expect_error([&] { pull(store(wrong), "tiny"); }, {"sha256", entry_.files[0].sha256});
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
  EXPECT_EQ(model.files[0].sha256, formats::sha256_file(file));
  EXPECT_EQ(offline().resolve(model.name), model.path);
  EXPECT_NO_THROW(pull(offline(), file.string()));  // again: the same
  EXPECT_NO_THROW(pull(offline(), model.name));     // by its name: verified
  EXPECT_EQ(pull(offline(), file.string(), "other").name, "other");
  EXPECT_EQ(offline().list().size(), 2U);
  offline().remove(model.name);
  EXPECT_TRUE(fs::exists(file));
  EXPECT_EQ(offline().list().size(), 1U);
}

TEST_F(ModelStoreTest, PullFetchesAFolder) {
  const StoredModel model = pull(store(), "folder");
  EXPECT_TRUE(model.is_folder);
  EXPECT_EQ(model.path, root_ / "folder");
  EXPECT_EQ(model.bytes, 5);
  EXPECT_EQ(read_text(model.path / "1_Pooling/config.json"), "{ }");
  EXPECT_EQ(offline().resolve("folder"), model.path);
  EXPECT_EQ(offline().find("folder")->files, model.files);
  EXPECT_NO_THROW(pull(offline(), "folder"));
  // Without its manifest it is known by its sizes, and adopted.
  fs::remove(model.path / "model.json");
  EXPECT_EQ(offline().resolve("folder"), model.path);
  pull(offline(), "folder");
  EXPECT_TRUE(fs::exists(model.path / "model.json"));
  // Damage in any file is found and repaired.
  write_text(model.path / "1_Pooling/config.json", "{!}");
  expect_error([&] { offline().verify(model); }, {"1_Pooling/config.json", "sha256"});
  pull(store(), "folder");
  EXPECT_NO_THROW(offline().verify(model));
  EXPECT_EQ(fetches_, 2);
}

TEST_F(ModelStoreTest, PullLinksALocalFolder) {
  const fs::path folder = base_ / "My model";
  write_text(folder / "config.json", "{}");
  write_text(folder / "model.safetensors", "weights");
  write_text(folder / "1_Pooling/config.json", "{ }");
  write_text(folder / "optimizer.bin", "x");
  const StoredModel model = pull(offline(), folder.string() + "/");
  EXPECT_EQ(model.name, "My-model");
  EXPECT_EQ(model.path, root_ / "My-model");
  EXPECT_EQ(model.files.size(), 3U);
  EXPECT_TRUE(fs::equivalent(model.path / "model.safetensors", folder / "model.safetensors"));
  EXPECT_FALSE(fs::exists(model.path / "optimizer.bin"));
  EXPECT_EQ(offline().resolve("My-model"), model.path);
  EXPECT_EQ(offline().resolve(folder.string()), folder);
  offline().remove("My-model");
  EXPECT_FALSE(fs::exists(model.path));
  EXPECT_EQ(read_text(folder / "model.safetensors"), "weights");
}

TEST_F(ModelStoreTest, RemoveLeavesWhatOthersPutThere) {
  const StoredModel model = pull(store(), "folder");
  write_text(model.path / "1_Pooling/notes", "mine");
  store().remove("folder");
  EXPECT_EQ(read_text(model.path / "1_Pooling/notes"), "mine");
  EXPECT_FALSE(fs::exists(model.path / "config.json"));
  EXPECT_TRUE(store().list().empty());
  expect_error([&] { store().remove("folder"); }, {"folder", "none"});
  EXPECT_TRUE(fs::exists(model.path / "1_Pooling/notes"));
  EXPECT_NO_THROW(pull(store(), "folder"));
}

TEST_F(ModelStoreTest, ManifestsOfStrangersAreRefused) {
  const auto problem = [&](const std::string& text) {
    write_text(root_ / "evil" / "model.json", text);
    return store().find("evil")->problem;
  };
  const auto with_file = [](const std::string& path, const std::string& bytes) {
    return R"({"name":"evil","files":[{"path":")" + path + R"(","bytes":)" + bytes +
           R"(,"sha256":""}],"bytes":2,"source":""})";
  };
  write_text(root_ / "evil" / "a", "xx");
  EXPECT_EQ(problem(with_file("a", "2")), "");
  for (const char* path : {"../evil/a", "/a", "..", ".", "", "b/../a", "a\\\\b", "a\\n"}) {
    EXPECT_NE(problem(with_file(path, "2")).find("outside"), std::string::npos) << path;
  }
  for (const char* bytes : {"-1", "1e30", "9999999999999999999", "null", "\"2\"", "[2]"}) {
    EXPECT_NE(problem(with_file("a", bytes)), "") << bytes;
  }
  for (const char* text : {"",
                           "{",
                           "[]",
                           "3",
                           R"({"files":[],"source":""})",
                           R"({"files":{},"source":""})",
                           R"({"files":[3],"source":""})",
                           R"({"file":"a","sha256":"","bytes":2})"}) {
    EXPECT_NE(problem(text).find("damaged"), std::string::npos) << text;
  }
  EXPECT_NE(problem(std::string(100'000, '[')).find("damaged"), std::string::npos);
  EXPECT_NE(problem(std::string(3 << 20, ' ')).find("damaged"), std::string::npos);
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
    ASSERT_FALSE(entry.files.empty());
    for (const CatalogueFile& file : entry.files) {
      EXPECT_EQ(file.sha256.size(), 64U);
      EXPECT_GT(file.bytes, 0);
      EXPECT_TRUE(is_hub_path(file.path));
      EXPECT_TRUE(("/" + file.member).ends_with("/" + file.path));
    }
    const auto named = [&](const std::string& path) {
      return std::any_of(entry.files.begin(), entry.files.end(), [&](const CatalogueFile& file) {
        return file.path == path;
      });
    };
    EXPECT_EQ(entry.is_folder(), named("config.json")) << entry.name;
  }
}

}  // namespace
}  // namespace adze::data
