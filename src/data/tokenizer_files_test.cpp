#include "data/tokenizer_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string_view>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "formats/gguf.h"

namespace adze::data {
namespace {

using formats::GgufArray;
using formats::GgufValue;
using Strings = std::vector<std::string>;
using Integers = std::vector<int32_t>;

// A small valid vocabulary, of which a test changes one key.
std::map<std::string, GgufValue> small_model() {
  return {
      {"general.architecture", std::string("llama")},
      {"llama.vocab_size", uint32_t{6}},
      {"tokenizer.ggml.model", std::string("gpt2")},
      {"tokenizer.ggml.pre", std::string("smollm")},
      {"tokenizer.ggml.tokens",
       GgufArray{Strings{"<unk>", "<|im_start|>", "a", "b", "ab", "<0x0A>"}}},
      {"tokenizer.ggml.token_type", GgufArray{Integers{2, 3, 1, 4, 5, 6}}},
      {"tokenizer.ggml.merges", GgufArray{Strings{"a b"}}},
      {"tokenizer.ggml.bos_token_id", uint32_t{1}},
      {"tokenizer.ggml.eos_token_id", uint32_t{2}},
      {"tokenizer.ggml.unknown_token_id", uint32_t{0}},
      {"tokenizer.ggml.padding_token_id", uint32_t{5}},
      {"tokenizer.ggml.add_bos_token", true},
      {"tokenizer.chat_template", std::string("{{ messages }}")},
  };
}

// Writes the model to a file, opens it and hands it to `use`.
void with_file(const std::map<std::string, GgufValue>& model,
               const std::vector<formats::StoredTensor>& tensors,
               const std::function<void(const formats::GgufFile&)>& use) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("adze-tokenizer-" + std::to_string(::getpid()) + ".gguf");
  std::vector<formats::TensorOutput> outputs;
  std::ranges::transform(tensors, std::back_inserter(outputs), formats::copy_of);
  formats::write_gguf(path, {model.begin(), model.end()}, outputs);
  const formats::GgufFile file(path);
  std::filesystem::remove(path);  // the mapping stays
  use(file);
}

text::TokenizerSpec spec_of(const std::map<std::string, GgufValue>& model) {
  text::TokenizerSpec spec;
  with_file(model, {}, [&](const auto& file) { spec = tokenizer_spec(file); });
  return spec;
}

void expect_error(const formats::GgufFile& file, std::initializer_list<std::string_view> parts) {
  try {
    tokenizer_spec(file);
    ADD_FAILURE() << "accepted";
  } catch (const core::Error& failure) {
    const std::string message = failure.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string_view part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
    }
  }
}

// The message when `key` has another value, or none.
void expect_refused(const std::string& key,
                    const std::optional<GgufValue>& value,
                    std::initializer_list<std::string_view> parts) {
  auto model = small_model();
  model.erase(key);
  if (value) {
    model.emplace(key, *value);
  }
  with_file(model, {}, [&](const auto& file) { expect_error(file, parts); });
}

TEST(TokenizerFiles, ReadsEveryField) {
  const auto spec = spec_of(small_model());
  using Kind = text::TokenKind;
  EXPECT_EQ(spec.model, text::TokenizerModel::kMergedPairs);
  EXPECT_EQ(spec.pre_tokenizer, "smollm");
  EXPECT_EQ(spec.tokens, (Strings{"<unk>", "<|im_start|>", "a", "b", "ab", "<0x0A>"}));
  EXPECT_EQ(spec.kinds,
            (std::vector{Kind::kUnknown,
                         Kind::kControl,
                         Kind::kNormal,
                         Kind::kUserDefined,
                         Kind::kUnused,
                         Kind::kByte}));
  EXPECT_EQ(spec.merges, Strings{"a b"});
  EXPECT_EQ(spec.begin_of_text, 1);
  EXPECT_EQ(spec.end_of_text, 2);
  EXPECT_EQ(spec.unknown, 0);
  EXPECT_EQ(spec.padding, 5);
  EXPECT_TRUE(spec.add_begin_of_text);
}

TEST(TokenizerFiles, ChatTemplateIsOptional) {
  auto model = small_model();
  with_file(
      model, {}, [](const auto& file) { EXPECT_EQ(chat_template_source(file), "{{ messages }}"); });
  model.erase("tokenizer.chat_template");
  with_file(
      model, {}, [](const auto& file) { EXPECT_EQ(chat_template_source(file), std::nullopt); });
  model["tokenizer.chat_template"] = true;
  with_file(
      model, {}, [](const auto& file) { EXPECT_THROW(chat_template_source(file), core::Error); });
}

TEST(TokenizerFiles, OptionalKeysMayBeMissing) {
  auto model = small_model();
  for (const char* key : {"bos_token_id",
                          "eos_token_id",
                          "unknown_token_id",
                          "padding_token_id",
                          "add_bos_token",
                          "token_type"}) {
    model.erase(std::string("tokenizer.ggml.") + key);
  }
  model.erase("general.architecture");
  model.erase("llama.vocab_size");
  const auto spec = spec_of(model);
  EXPECT_EQ(spec.begin_of_text, std::nullopt);
  EXPECT_EQ(spec.end_of_text, std::nullopt);
  EXPECT_EQ(spec.unknown, std::nullopt);
  EXPECT_EQ(spec.padding, std::nullopt);
  EXPECT_FALSE(spec.add_begin_of_text);
  EXPECT_EQ(spec.kinds, std::vector(6, text::TokenKind::kNormal));
}

TEST(TokenizerFiles, FamiliesThatBeginWithATokenDoSoByDefault) {
  auto model = small_model();
  model.erase("tokenizer.ggml.add_bos_token");
  EXPECT_FALSE(spec_of(model).add_begin_of_text);
  model["tokenizer.ggml.pre"] = std::string("llama-bpe");
  EXPECT_TRUE(spec_of(model).add_begin_of_text);
  model["tokenizer.ggml.add_bos_token"] = false;
  EXPECT_FALSE(spec_of(model).add_begin_of_text);
}

TEST(TokenizerFiles, RefusesOtherModels) {
  const std::string key = "tokenizer.ggml.model";
  expect_refused(key, std::nullopt, {"[tokenizer]", key, "gpt2", "no such key"});
  expect_refused(key, std::string("llama"), {"tokenizer.ggml.scores", "got none"});
  expect_refused(key, std::string("rwkv"), {"\"rwkv\""});
  expect_refused(key, std::string("x\ny"), {"\"x\\x0ay\""});
  expect_refused(key, uint32_t{1}, {"[gguf]", key, "expected a string, got uint32 1"});
  expect_refused("tokenizer.ggml.pre", std::nullopt, {"tokenizer.ggml.pre", "no such key"});
}

TEST(TokenizerFiles, RefusesVocabulariesThatDisagree) {
  const std::string tokens = "tokenizer.ggml.tokens";
  expect_refused(tokens, std::nullopt, {tokens, "no such key"});
  expect_refused(tokens, GgufArray{Strings{}}, {tokens, "1 to 1048576 entries, got 0"});
  expect_refused(tokens, GgufArray{Strings(7, "t")}, {"vocab_size, 6, got 7 tokens"});
  expect_refused(tokens, GgufArray{Integers{1}}, {tokens, "an array of strings"});
  expect_refused("llama.vocab_size", int32_t{-6}, {"vocab_size, -6"});
  expect_refused("llama.vocab_size", std::string("6"), {"expected an integer"});
  const std::vector<float> rows(5 * 2);
  with_file(small_model(),
            {{"token_embd.weight", core::TensorType::kF32, {5, 2}, std::as_bytes(std::span(rows))}},
            [](const auto& file) {
              expect_error(file, {"one a row of token_embd.weight, 5, got 6 tokens"});
            });
}

TEST(TokenizerFiles, RefusesKindsOutOfRange) {
  const std::string key = "tokenizer.ggml.token_type";
  expect_refused(key, GgufArray{Integers(5, 1)}, {key, "6 entries, one a token, got 5"});
  expect_refused(key, GgufArray{Integers{1, 1, 1, 1, 1, 7}}, {key + "[5]", "1 to 6, got 7"});
  expect_refused(key, GgufArray{Integers{1, -1, 1, 1, 1, 1}}, {key + "[1]", "1 to 6, got -1"});
  expect_refused(key, GgufArray{Integers{0, 1, 1, 1, 1, 1}}, {key + "[0]", "1 to 6, got 0"});
  expect_refused(key, std::string("111111"), {key, "an array of", "integers"});
}

TEST(TokenizerFiles, RefusesByteTokensOutOfRange) {
  for (const char* text : {"<0x-1>", "<0x1>", "<0x100>", "<0xfg>", "<0x0a>", "byte", ""}) {
    expect_refused("tokenizer.ggml.tokens",
                   GgufArray{Strings{"<unk>", "<|im_start|>", "a", "b", "ab", text}},
                   {"tokenizer.ggml.tokens[5]", "<0x00> to <0xFF>", text});
  }
}

TEST(TokenizerFiles, RefusesMergesThatAreNoPairs) {
  const std::string key = "tokenizer.ggml.merges";
  expect_refused(key, std::nullopt, {key, "no such key"});
  for (const char* merge : {"", " ", "ab", " b", "a ", "a b c", "a  b"}) {
    expect_refused(key, GgufArray{Strings{"a b", merge}}, {key + "[1]", "one space between them"});
  }
}

TEST(TokenizerFiles, RefusesIdsOutsideTheVocabulary) {
  for (const char* name :
       {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"}) {
    const std::string key = std::string("tokenizer.ggml.") + name;
    expect_refused(key, uint32_t{6}, {key, "0 to 5, got 6"});
    expect_refused(key, int32_t{-1}, {key, "0 to 5, got -1"});
    expect_refused(key, uint64_t{1} << 32, {key, "0 to 5, got 4294967296"});
    expect_refused(key, 1.0F, {key, "expected an integer"});
  }
  expect_refused("tokenizer.ggml.bos_token_id", std::nullopt, {"add_bos_token", "false without"});
  expect_refused("tokenizer.ggml.add_bos_token", uint8_t{1}, {"expected a bool, got uint8 1"});
}

// A Hugging Face folder with the files given, gone at the end.
class Folder {
 public:
  explicit Folder(const std::map<std::string, std::string>& files)
      : path_(std::filesystem::temp_directory_path() /
              ("adze-folder-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    for (const auto& [name, text] : files) {
      std::ofstream(path_ / name, std::ios::binary) << text;
    }
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr const char* kSmallTokenizer = R"({
  "added_tokens": [{"id": 2, "content": "<s>", "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "model": {"type": "BPE", "vocab": {"a": 0, "</s>": 1, "<pad>": 3}, "merges": []}
})";

text::TokenizerSpec folder_spec(const std::string& configuration, const std::string& map = "{}") {
  const Folder folder({{"tokenizer.json", kSmallTokenizer},
                       {"tokenizer_config.json", configuration},
                       {"special_tokens_map.json", map}});
  return tokenizer_spec(folder.path());
}

TEST(TokenizerFolder, NamesAndFlagsOfTheConfiguration) {
  const auto spec = folder_spec(
      R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true})",
      R"({"pad_token": "<pad>", "eos_token": "<s>"})");
  EXPECT_EQ(spec.begin_of_text, 2);
  EXPECT_EQ(spec.end_of_text, 1);  // the configuration counts
  EXPECT_EQ(spec.padding, 3);
  EXPECT_TRUE(spec.add_begin_of_text);
  EXPECT_FALSE(spec.add_end_of_text);
  // Tokens that it names are matched as a whole, though tokenizer.json does not add them.
  EXPECT_EQ(text::Tokenizer(spec).encode("a</s>a", text::SpecialTokens::kParse),
            (Integers{0, 1, 0}));
  EXPECT_EQ(folder_spec("{}").begin_of_text, std::nullopt);
}

TEST(TokenizerFolder, RefusesWhatIsNoConfiguration) {
  EXPECT_THROW(folder_spec("[]"), core::Error);
  EXPECT_THROW(folder_spec("{"), core::Error);
  EXPECT_THROW(folder_spec(R"({"bos_token": 3})"), core::Error);
  EXPECT_THROW(folder_spec(R"({"bos_token": "<s>", "add_bos_token": "yes"})"), core::Error);
  const Folder empty({});
  EXPECT_THROW(tokenizer_spec(empty.path()), core::Error);
}

TEST(TokenizerFolder, ChatTemplates) {
  using Files = std::map<std::string, std::string>;
  const auto source = [](const Files& files) { return chat_template_source(Folder(files).path()); };
  const std::string in_configuration = R"({"chat_template": "{{ a }}"})";
  EXPECT_EQ(source({}), std::nullopt);
  EXPECT_EQ(source({{"tokenizer_config.json", in_configuration}}), "{{ a }}");
  EXPECT_EQ(
      source({{"tokenizer_config.json", in_configuration}, {"chat_template.jinja", "{{ b }}"}}),
      "{{ b }}");
  EXPECT_EQ(source({{"tokenizer_config.json",
                     R"({"chat_template": [{"name": "tool_use", "template": "t"},
                                           {"name": "default", "template": "d"}]})"}}),
            "d");
  EXPECT_EQ(source({{"tokenizer_config.json",
                     R"({"chat_template": [{"name": "tool_use", "template": "t"}]})"}}),
            std::nullopt);
  EXPECT_THROW(source({{"tokenizer_config.json", R"({"chat_template": 1})"}}), core::Error);
}

}  // namespace
}  // namespace adze::data
