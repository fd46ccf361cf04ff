#include "data/tokenizer_json.h"

#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/tokenizer.h"

namespace adze::data {
namespace {

using nlohmann::json;

json small_tree() {
  return json::parse(R"({
    "added_tokens": [{"id": 3, "content": "<s>", "special": true, "normalized": false},
                     {"id": 1, "content": "b", "lstrip": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}},
    "decoder": null,
    "model": {"type": "BPE", "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2, "c d": 5},
              "merges": [["a", "b"]]}
  })");
}

text::TokenizerSpec read(const json& tree) {
  return tokenizer_from_json(tree, "tokenizer.json");
}

TEST(TokenizerJson, ReadsEveryPart) {
  const text::TokenizerSpec spec = read(small_tree());
  EXPECT_EQ(spec.tokens, (std::vector<std::string>{"a", "b", "ab", "<s>", "", "c d"}));
  using Kind = text::TokenKind;
  EXPECT_EQ(spec.kinds,
            (std::vector{Kind::kUnknown,
                         Kind::kUserDefined,
                         Kind::kNormal,
                         Kind::kControl,
                         Kind::kUnused,
                         Kind::kNormal}));
  EXPECT_EQ(spec.merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(spec.normalizers.size(), 2U);
  ASSERT_TRUE(spec.added_tokens);
  EXPECT_EQ(*spec.added_tokens,
            (std::vector<text::AddedToken>{{.id = 3},
                                           {.id = 1, .normalized = true, .left_strip = true}}));
  EXPECT_EQ(spec.unknown, 0);
  EXPECT_TRUE(spec.writes_unknown);
  EXPECT_EQ(spec.begin_of_text, 3);
  EXPECT_TRUE(spec.add_begin_of_text);
}

TEST(TokenizerJson, SurvivesWritingAndReading) {
  const text::TokenizerSpec spec = read(small_tree());
  EXPECT_EQ(read(json::parse(tokenizer_json(for_tokenizers_library(spec)))), [&] {
    text::TokenizerSpec copy = spec;
    std::swap((*copy.added_tokens)[0], (*copy.added_tokens)[1]);  // written by id
    return copy;
  }());
}

TEST(TokenizerJson, MergesMayHaveSpaces) {
  json tree = small_tree();
  tree["model"]["vocab"] = {{"a", 0}, {" ", 1}, {"a ", 2}, {"b", 4}};
  tree["model"]["merges"] = json::array({json::array({"a", " "})});
  tree["pre_tokenizer"] = nullptr;
  tree["added_tokens"].erase(1);
  const text::TokenizerSpec spec = read(tree);
  EXPECT_EQ(spec.merges, std::vector<std::string>{"a\xFF "});
  EXPECT_EQ(text::Tokenizer(spec).encode("a b", text::SpecialTokens::kParse),
            (std::vector<int32_t>{2, 4}));
  EXPECT_EQ(read(json::parse(tokenizer_json(for_tokenizers_library(spec)))).merges, spec.merges);
}

TEST(TokenizerJson, RefusesByPlace) {
  const auto refused = [](const std::function<void(json&)>& spoil, std::string_view part) {
    json tree = small_tree();
    spoil(tree);
    try {
      read(tree);
      ADD_FAILURE() << part << " was accepted";
    } catch (const core::Error& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(part), std::string::npos) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  };
  refused([](json& tree) { tree = 1; }, "the file: expected an object");
  refused([](json& tree) { tree["model"]["type"] = "WordLevel"; },
          R"(model.type: "WordLevel" is not supported)");
  refused([](json& tree) { tree["model"]["dropout"] = 0.1; }, "model.dropout: 0.1");
  refused([](json& tree) { tree["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix");
  refused([](json& tree) { tree["model"]["vocab"]["x"] = -1; }, "model.vocab: expected ids");
  refused([](json& tree) { tree["model"]["vocab"]["x"] = 1u << 30; }, "model.vocab: expected ids");
  refused([](json& tree) { tree["model"]["vocab"]["x"] = 1; }, "an id for each token");
  refused([](json& tree) { tree["model"]["vocab"]["x"] = "1"; }, "whole numbers");
  refused([](json& tree) { tree["model"]["vocab"] = json::array(); }, "model.vocab");
  refused([](json& tree) { tree["model"]["unk_token"] = "zz"; }, "model.unk_token");
  refused([](json& tree) { tree["model"]["merges"] = json::array({json::array({"a"})}); },
          "model.merges: expected pairs");
  refused(
      [](json& tree) {
        tree["normalizer"] = {{"type", "Nmt"}};
      },
      R"(normalizer.type: "Nmt" is not supported)");
  refused([](json& tree) { tree["normalizer"]["normalizers"][1]["type"] = 3; },
          "normalizer.normalizers[1].type: expected a string, got 3");
  refused(
      [](json& tree) {
        tree["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
      },
      "\"UnicodeScripts\" is not supported");
  refused([](json& tree) { tree["decoder"] = {{"type", "CTC"}}; }, "\"CTC\" is not supported");
  refused(
      [](json& tree) {
        tree["post_processor"]["single"].push_back({{"Sequence", {{"id", "B"}}}});
      },
      "post_processor.single[2]");
  refused(
      [](json& tree) {
        tree["post_processor"]["special_tokens"]["<s>"]["ids"] = {3, 3};
      },
      "two tokens before a text");
  refused([](json& tree) { tree["post_processor"]["special_tokens"]["<s>"]["ids"] = {99}; },
          "expected 0 to 5, got 99");
  refused([](json& tree) { tree["added_tokens"][0]["id"] = 2; }, "an id for each token");
  refused(
      [](json& tree) {
        tree["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "*"}};
      },
      "expected base64");
  refused(
      [](json& tree) {
        json many = json::array();
        for (int count = 0; count < 70; ++count) {
          many.push_back({{"type", "NFC"}});
        }
        tree["normalizer"] = {{"type", "Sequence"}, {"normalizers", many}};
      },
      "at most 64 steps");
}

TEST(Base64, BothWays) {
  for (const std::string bytes : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    EXPECT_EQ(base64_decoded(base64_encoded(bytes), "test"), bytes);
  }
  EXPECT_EQ(base64_encoded("fooba"), "Zm9vYmE=");
  EXPECT_EQ(base64_encoded(std::string("\x00\xff", 2)), "AP8=");
  EXPECT_THROW(base64_decoded("Zg=", "test"), core::Error);
  EXPECT_THROW(base64_decoded("====", "test"), core::Error);
  EXPECT_THROW(base64_decoded("Z===", "test"), core::Error);
}

}  // namespace
}  // namespace adze::data
