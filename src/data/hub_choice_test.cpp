#include "data/hub_choice.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::data {
namespace {

std::vector<HubFile> files(const std::vector<std::string>& paths) {
  std::vector<HubFile> list;
  for (const std::string& path : paths) {
    list.push_back({.path = path, .bytes = 1'000'000, .sha256 = "", .git_blob = ""});
  }
  return list;
}

std::vector<std::string> paths(const std::vector<HubFile>& list) {
  std::vector<std::string> result;
  for (const HubFile& file : list) {
    result.push_back(file.path);
  }
  return result;
}

std::string chosen(const std::vector<std::string>& offered,
                   const std::string& wanted,
                   const ChooseFile& choose = {}) {
  return choose_gguf(
             {.repository = "a/b", .revision = "main", .file = wanted}, files(offered), choose)
      .path;
}

std::string refusal(const std::vector<std::string>& offered,
                    const std::string& wanted,
                    const ChooseFile& choose = {}) {
  try {
    return "chose " + chosen(offered, wanted, choose);
  } catch (const core::Error& failure) {
    return failure.what();
  }
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(ChooseGguf, TheOnlyOne) {
  EXPECT_EQ(chosen({"README.md", "sub/m.gguf", "config.json"}, ""), "sub/m.gguf");
  EXPECT_EQ(chosen({"M.GGUF"}, ""), "M.GGUF");
  EXPECT_TRUE(has_gguf(files({"a", "b.gguf"})));
  EXPECT_FALSE(has_gguf(files({"a", "gguf", "b.gguf.txt"})));
}

TEST(ChooseGguf, ByNameOrType) {
  const std::vector<std::string> offered = {
      "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-IQ4_XS.gguf", "m.Q8_0.gguf", "x/m-f16.gguf"};
  EXPECT_EQ(chosen(offered, "Q4_K_M"), "m-Q4_K_M.gguf");
  EXPECT_EQ(chosen(offered, "q4_k_s"), "m-Q4_K_S.gguf");
  EXPECT_EQ(chosen(offered, "IQ4_XS"), "m-IQ4_XS.gguf");
  EXPECT_EQ(chosen(offered, "q8_0"), "m.Q8_0.gguf");
  EXPECT_EQ(chosen(offered, "F16"), "x/m-f16.gguf");
  EXPECT_EQ(chosen(offered, "x/m-f16.gguf"), "x/m-f16.gguf");
  EXPECT_EQ(chosen(offered, "m-F16"), "x/m-f16.gguf");
  EXPECT_TRUE(contains(refusal(offered, "Q4_K"), "no GGUF file \"Q4_K\""));
  EXPECT_TRUE(contains(refusal(offered, "Q4_XS"), "no GGUF file"));
  EXPECT_TRUE(contains(refusal(offered, "m-Q4_K_N.gguf"), "did you mean"));
  // A path wins over a file's name elsewhere.
  EXPECT_EQ(chosen({"x/m.gguf", "m.gguf"}, "m.gguf"), "m.gguf");
}

TEST(ChooseGguf, Several) {
  const std::vector<std::string> offered = {"a.gguf", "b.gguf", "c.txt"};
  const std::string message = refusal(offered, "");
  EXPECT_TRUE(contains(message, "2 GGUF files")) << message;
  EXPECT_TRUE(contains(message, "\"b.gguf\" (1.0 MB)")) << message;
  EXPECT_FALSE(contains(message, "c.txt")) << message;
  EXPECT_EQ(chosen(offered, "", [](const auto&) { return 1; }), "b.gguf");
  EXPECT_TRUE(contains(refusal(offered, "", [](const auto&) { return 2; }), "no file was chosen"));
  EXPECT_TRUE(contains(refusal(offered, "", [](const auto&) { return std::nullopt; }), "no file"));
  EXPECT_TRUE(contains(refusal({"a-Q4_0.gguf", "b-Q4_0.gguf"}, "Q4_0"), "match \"Q4_0\""));
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) {
    many.push_back(fmt::format("m{}.gguf", i));
  }
  EXPECT_TRUE(contains(refusal(many, ""), "and 60 more"));
}

TEST(ChooseGguf, SplitFiles) {
  EXPECT_TRUE(contains(refusal({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}, ""), "split"));
  EXPECT_TRUE(contains(refusal({"m-00001-of-00002.gguf"}, ""), "not supported"));
  EXPECT_TRUE(contains(refusal({"m-00001-of-00002.gguf", "a.gguf"}, "m-00001-of-00002"), "split"));
  EXPECT_EQ(chosen({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "a.gguf"}, ""), "a.gguf");
  EXPECT_EQ(chosen({"m-00001-of-0002.gguf"}, ""), "m-00001-of-0002.gguf");
  EXPECT_EQ(chosen({"m-0000a-of-00002.gguf"}, ""), "m-0000a-of-00002.gguf");
}

TEST(ChooseFolder, FilesOfAModel) {
  EXPECT_EQ(paths(choose_folder("a/b",
                                files({"README.md",
                                       "config.json",
                                       "model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors",
                                       "model.safetensors.index.json",
                                       "consolidated.safetensors",
                                       "pytorch_model.bin",
                                       "sub/model.safetensors",
                                       "sub/config.json",
                                       "1_Pooling/config.json",
                                       "tokenizer.json",
                                       "training_args.bin"}))),
            (std::vector<std::string>{"config.json",
                                      "model.safetensors.index.json",
                                      "1_Pooling/config.json",
                                      "tokenizer.json",
                                      "model-00001-of-00002.safetensors",
                                      "model-00002-of-00002.safetensors"}));
  EXPECT_EQ(paths(choose_folder("a/b", files({"config.json", "weights.safetensors"}))).size(), 2U);
}

TEST(ChooseFolder, Refusals) {
  const auto message = [](const std::vector<std::string>& offered) {
    try {
      choose_folder("a/b", files(offered));
      return std::string("chosen");
    } catch (const core::Error& failure) {
      return std::string(failure.what());
    }
  };
  for (const char* pickle : {"pytorch_model.bin",
                             "model.PT",
                             "a/model.pth",
                             "last.ckpt",
                             "m.pkl",
                             "tf_model.h5",
                             "flax_model.msgpack",
                             "onnx/model.onnx"}) {
    EXPECT_TRUE(contains(message({"config.json", pickle}), pickle)) << message({pickle});
    EXPECT_TRUE(contains(message({"config.json", pickle}), "safetensors"));
  }
  EXPECT_TRUE(contains(message({}), "neither"));
  EXPECT_TRUE(contains(message({"config.json"}), "neither"));
  EXPECT_TRUE(contains(message({"config.json", "sub/model.safetensors"}), "neither"));
  EXPECT_TRUE(contains(message({"model.safetensors"}), "config.json"));
}

}  // namespace
}  // namespace adze::data
