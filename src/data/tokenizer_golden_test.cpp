// Ids of the reference libraries for hard texts (tests/golden/tokenizers/make_golden.py), from
// every form in which a tokenizer can be stored.

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/error.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_json.h"
#include "formats/gguf.h"
#include "text/pre_tokenizer_families.h"

namespace adze::data {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

const std::filesystem::path kGolden = "tests/golden/tokenizers";

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

const json& expected() {
  static const json tree = json::parse(bytes_of(kGolden / "expected.json"));
  return tree;
}

// A folder that is gone at the end.
class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("adze-golden-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const char* name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  std::filesystem::path path_;
};

text::TokenizerSpec spec_of(const std::string& name) {
  const Folder folder;
  const auto json_path = kGolden / (name + ".json");
  const bool is_json = std::filesystem::exists(json_path);
  folder.write(is_json ? "tokenizer.json" : "tokenizer.model",
               bytes_of(is_json ? json_path : kGolden / (name + ".model")));
  return tokenizer_spec(folder.path());
}

// The pre-tokenizer of a family before the vocabulary of bytes.json.
text::TokenizerSpec family_spec(const std::string& name) {
  const json families = json::parse(bytes_of(kGolden / "families.json"));
  json tree = json::parse(bytes_of(kGolden / "bytes.json"));
  for (const char* key : {"normalizer", "pre_tokenizer"}) {
    tree[key] = families.at(name).at(key);
  }
  tree["model"]["ignore_merges"] = families.at(name).at("ignore_merges");
  return tokenizer_from_json(tree, "families.json");
}

text::TokenizerSpec through_gguf(const text::TokenizerSpec& spec) {
  const Folder folder;
  const auto path = folder.path() / "tokenizer.gguf";
  formats::write_gguf(path, gguf_tokenizer_metadata(spec, "{{ template }}"), {});
  const formats::GgufFile file(path);
  EXPECT_EQ(chat_template_source(file), "{{ template }}");
  return tokenizer_spec(file);
}

text::TokenizerSpec through_files(const text::TokenizerSpec& spec) {
  const Folder folder;
  write_tokenizer_files(folder.path(), spec, "{{ template }}");
  EXPECT_EQ(chat_template_source(folder.path()), "{{ template }}");
  return tokenizer_spec(folder.path());
}

// How many texts have other ids than the reference gives; texts it gave none for are left out.
int count_differences(const text::TokenizerSpec& spec, const std::string& name, bool show = true) {
  const text::Tokenizer tokenizer(spec);
  const json& texts = expected().at("texts");
  const json& ids = expected().at("ids").at(name);
  int differences = 0;
  for (size_t index = 0; index < texts.size(); ++index) {
    if (ids[index].is_null()) {
      continue;
    }
    const auto found =
        tokenizer.encode(texts[index].get<std::string>(), text::SpecialTokens::kParse);
    if (found != ids[index].get<Ids>()) {
      ++differences;
      EXPECT_TRUE(!show) << name << ": " << texts[index] << " gives " << json(found).dump()
                         << ", not " << ids[index].dump();
    }
  }
  return differences;
}

TEST(TokenizerGolden, IdsAreThoseOfTheReference) {
  size_t compared = 0;
  for (const auto& [name, ids] : expected().at("ids").items()) {
    if (!name.starts_with("family:")) {
      EXPECT_EQ(count_differences(spec_of(name), name), 0) << name;
      compared += ids.size();
    }
  }
  EXPECT_GT(compared, 700U);
}

TEST(TokenizerGolden, FamiliesByTheirStepsAndByTheirName) {
  size_t compared = 0;
  for (const auto& [name, ids] : expected().at("ids").items()) {
    if (!name.starts_with("family:")) {
      continue;
    }
    const std::string family = name.substr(7);
    const text::TokenizerSpec spec = family_spec(family);
    EXPECT_EQ(count_differences(spec, name), 0) << name;
    EXPECT_EQ(text::name_of_family(spec), family);
    const text::TokenizerSpec named = through_gguf(spec);
    EXPECT_EQ(named.pre_tokenizer, family);
    EXPECT_EQ(count_differences(named, name), 0) << name;
    EXPECT_EQ(count_differences(through_files(named), name), 0) << name;
    compared += ids.size();
  }
  EXPECT_GT(compared, 700U);
}

TEST(TokenizerGolden, DecodedAsTheReferenceDoes) {
  for (const auto& [name, decoded] : expected().at("decoded").items()) {
    const text::Tokenizer tokenizer(spec_of(name));
    for (size_t index = 0; index < decoded.size(); ++index) {
      const auto text = decoded[index].get<std::string>();
      const auto ids = expected().at("ids").at(name)[index].get<Ids>();
      if (text.find("\ufffd") == std::string::npos) {  // we keep the bytes, it does not
        EXPECT_EQ(tokenizer.decode(ids), text) << name << ": " << expected().at("texts")[index];
      }
    }
  }
}

TEST(TokenizerGolden, FilesGiveTheSameIds) {
  for (const auto& [name, ids] : expected().at("ids").items()) {
    // SentencePiece's tables and user-defined tokens behind a space have no exact counterpart.
    if (!name.starts_with("family:") && !std::filesystem::exists(kGolden / (name + ".model"))) {
      EXPECT_EQ(count_differences(through_files(spec_of(name)), name), 0) << name;
    }
  }
  EXPECT_EQ(count_differences(through_files(spec_of("scored_plain")), "scored_plain"), 0);
}

TEST(TokenizerGolden, GgufGivesTheSameIds) {
  for (const char* name :
       {"word_piece", "word_piece_cased", "scored", "scored_plain", "likely", "likely_bytes"}) {
    EXPECT_EQ(count_differences(through_gguf(spec_of(name)), name), 0) << name;
  }
}

TEST(TokenizerGolden, GgufRefusesWhatItCannotSay) {
  const auto refused = [](const text::TokenizerSpec& spec, std::string_view part) {
    try {
      gguf_tokenizer_metadata(spec, std::nullopt);
      ADD_FAILURE() << "accepted, though " << part;
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refused(spec_of("pairs_unknown"), "byte fallback");
  refused(spec_of("pairs"), "an order that scores can express");
  refused(spec_of("unigram"), R"({"type":"NFKC"})");
  refused(spec_of("added"), R"("pattern":{"Regex":"\\w+"})");
  text::TokenizerSpec bytes = spec_of("bytes");
  bytes.normalizers = {{.kind = text::NormalizerStep::Kind::kNfkc}};
  refused(bytes, "together");
}

TEST(TokenizerGolden, BeginAndEndTokens) {
  const text::TokenizerSpec pairs = spec_of("pairs_prefix");
  EXPECT_TRUE(pairs.add_begin_of_text);
  EXPECT_FALSE(pairs.add_end_of_text);
  EXPECT_EQ(pairs.begin_of_text, 1);
  const text::TokenizerSpec words = spec_of("word_piece");
  EXPECT_TRUE(words.add_begin_of_text && words.add_end_of_text);
  EXPECT_EQ(words.begin_of_text, 2);
  EXPECT_EQ(closing_token(words), 3);
  for (const auto& copy : {through_gguf(words), through_files(words)}) {
    EXPECT_TRUE(copy.add_begin_of_text && copy.add_end_of_text);
    EXPECT_EQ(copy.begin_of_text, 2);
    EXPECT_EQ(closing_token(copy), 3);
  }
  EXPECT_EQ(closing_token(spec_of("unigram")), 2);
}

}  // namespace
}  // namespace adze::data
