// Models whose layers share keys and values, as files: logits against an independent derivation
// (src/methods/cross_layer_attention/golden), every format there and back, tensors that nothing
// reads, and copies of plain models that share.

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "formats/gguf.h"
#include "methods/cross_layer_attention/cross_layer_attention.h"
#include "model/checkpoint.h"
#include "model/convert.h"
#include "model/load_model.h"
#include "tests/support/golden_model.h"
#include "tests/support/golden_outputs.h"
#include "tests/support/temporary_folder.h"

namespace adze {
namespace {

using golden::GoldenModel;
using golden::GoldenTensor;

const std::filesystem::path kGolden = "src/methods/cross_layer_attention/golden";
constexpr double kTolerance = 2e-4;  // as for models whose layers own what they read

model::ModelPtr load(const std::filesystem::path& path) {
  return model::load_model(model::open_checkpoint(path), kernels::Arithmetic::kF32);
}

void write_folder(const GoldenModel& golden, const std::filesystem::path& folder) {
  golden::write_hugging_face_folder(golden, folder);
  golden::write_tokenizer(folder);
}

// A consumer's tensors that Gemma 3n's files have too; of any content and shape.
void add_strays(GoldenModel& golden, int64_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".self_attn.";
  for (const char* stem : {"k_proj", "v_proj", "k_norm"}) {
    golden.tensors.push_back({prefix + stem + ".weight", {3, 5}, 0, 1});
  }
}

class SharedGoldenTest : public testing::TestWithParam<std::string> {
 protected:
  std::vector<float> expect_golden(const std::filesystem::path& path) const {
    const auto loaded = load(path);
    const auto& sequence = golden_.only_sequence();
    auto whole = golden::outputs(*loaded, sequence.tokens, 1 << 20);
    EXPECT_LT(golden::largest_difference(golden_, sequence, whole), kTolerance) << path;
    EXPECT_EQ(golden::outputs(*loaded, sequence.tokens, 1), whole) << path;
    EXPECT_EQ(golden::outputs(*loaded, sequence.tokens, 7), whole) << path;
    return whole;
  }

  support::TemporaryFolder folder_;
  std::filesystem::path hf_ = folder_.path() / "hf";
  std::filesystem::path gguf_ = folder_.path() / "model.gguf";
  GoldenModel golden_ = golden::read_golden(GetParam(), kGolden);
};

TEST_P(SharedGoldenTest, GivesTheLogitsOfTheDerivationInEveryFormat) {
  write_folder(golden_, hf_);
  const auto expected = expect_golden(hf_);
  const auto checkpoint = model::open_checkpoint(hf_);
  EXPECT_LT(checkpoint.spec.owning_layers().size(), checkpoint.spec.kv_source.size());
  model::write_gguf_model(checkpoint, {}, gguf_);
  EXPECT_EQ(expect_golden(gguf_), expected);
  const auto back = folder_.path() / "back";
  const auto from_gguf = model::open_checkpoint(gguf_);
  EXPECT_EQ(from_gguf.spec.kv_source, checkpoint.spec.kv_source);
  EXPECT_EQ(from_gguf.spec.key_value_norm, checkpoint.spec.key_value_norm);
  model::write_hugging_face_model(from_gguf, core::TensorType::kF32, back);
  EXPECT_EQ(expect_golden(back), expected);
  EXPECT_EQ(golden::read_text(back / "model.safetensors").size(),
            golden::read_text(hf_ / "model.safetensors").size());
}

TEST_P(SharedGoldenTest, UnreadKeysAndValuesChangeNothing) {  // [05 §6.7]
  write_folder(golden_, hf_);
  const auto expected = expect_golden(hf_);
  const auto spec = model::open_checkpoint(hf_).spec;
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    if (!spec.owns_kv(layer)) {
      add_strays(golden_, layer);
    }
  }
  write_folder(golden_, hf_);
  EXPECT_EQ(expect_golden(hf_), expected);
  const auto checkpoint = model::open_checkpoint(hf_);
  EXPECT_EQ(checkpoint.ignored.size(), 3 * (spec.kv_source.size() - spec.owning_layers().size()));
  model::write_gguf_model(checkpoint, {}, gguf_);
  EXPECT_EQ(expect_golden(gguf_), expected);
}

TEST_P(SharedGoldenTest, AnOwnerWithoutKeysIsRefused) {  // [05 §2.7]
  for (const char* stem : {"k_proj", "v_proj"}) {
    GoldenModel spoilt = golden_;
    const std::string name = std::string("model.layers.1.self_attn.") + stem + ".weight";
    ASSERT_EQ(
        std::erase_if(spoilt.tensors, [&](const auto& tensor) { return tensor.name == name; }), 1U);
    write_folder(spoilt, hf_);
    try {
      model::open_checkpoint(hf_);
      ADD_FAILURE() << "accepted";
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find("blk.1.attn_"), std::string::npos) << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden,
                         SharedGoldenTest,
                         testing::Values("pairs_of_five",
                                         "keep_ends_two_norms",
                                         "trailing_by_kind"),
                         [](const auto& entry) { return entry.param; });

class KvSharingTest : public testing::Test {
 protected:
  support::TemporaryFolder folder_;
};

// The file again with other metadata and tensors besides.
void rewrite(const std::filesystem::path& from,
             const std::filesystem::path& to,
             const std::string& without,
             const std::vector<std::pair<std::string, formats::GgufValue>>& with,
             const std::vector<formats::TensorOutput>& more) {
  const formats::GgufFile file(from);
  std::vector<std::pair<std::string, formats::GgufValue>> metadata;
  for (const auto& [key, value] : file.metadata()) {
    if (key != without) {
      metadata.emplace_back(key, value);
    }
  }
  metadata.insert(metadata.end(), with.begin(), with.end());
  std::vector<formats::TensorOutput> tensors;
  for (const formats::StoredTensor& tensor : file.tensors()) {
    tensors.push_back(formats::copy_of(tensor));
  }
  tensors.insert(tensors.end(), more.begin(), more.end());
  formats::write_gguf(to, metadata, tensors);
}

TEST_F(KvSharingTest, GgufFilesMayCountTheLayersThatShare) {
  const auto golden = golden::read_golden("trailing_by_kind", kGolden);
  const auto hf = folder_.path() / "hf";
  const auto listed = folder_.path() / "listed.gguf";
  const auto counted = folder_.path() / "counted.gguf";
  write_folder(golden, hf);
  model::write_gguf_model(model::open_checkpoint(hf), {}, listed);
  formats::TensorOutput stray{.name = "blk.6.attn_k.weight",
                              .type = core::TensorType::kF32,
                              .shape = {32},
                              .fill = [](std::span<std::byte> bytes) {
                                std::fill(bytes.begin(), bytes.end(), std::byte{1});
                              }};
  rewrite(listed,
          counted,
          "gemma3.attention.kv_source_layer",
          {{"gemma3.attention.shared_kv_layers", uint32_t{3}}},
          {stray});
  const auto checkpoint = model::open_checkpoint(counted);
  EXPECT_EQ(checkpoint.spec.kv_source, (std::vector<int64_t>{0, 1, 2, 3, 4, 3, 4, 3}));
  EXPECT_EQ(checkpoint.ignored, (std::vector<std::string>{"blk.6.attn_k.weight"}));
  const auto& tokens = golden.only_sequence().tokens;
  EXPECT_EQ(golden::outputs(*load(counted), tokens, 1000),
            golden::outputs(*load(listed), tokens, 1000));
  for (const uint32_t shared : {8U, 7U, 1000U}) {  // 7: no global layer before them
    rewrite(listed,
            counted,
            "gemma3.attention.kv_source_layer",
            {{"gemma3.attention.shared_kv_layers", shared}},
            {});
    EXPECT_THROW(model::open_checkpoint(counted), core::Error) << shared;
  }
  rewrite(listed,
          counted,
          "gemma3.attention.kv_source_layer",
          {{"gemma3.attention.kv_source_layer",
            formats::GgufArray{std::vector<int32_t>{0, 1, 2, 3, 4, 3, 5, 3}}}},
          {});
  EXPECT_THROW(model::open_checkpoint(counted), core::Error);
}

TEST_F(KvSharingTest, QueriesOfAFusedMatrixAreTakenOutOfIt) {
  auto golden = golden::read_golden("phi3");
  const auto hf = folder_.path() / "hf";
  const auto write = [&] {
    write_folder(golden, hf);
    auto config = nlohmann::json::parse(golden::read_text(hf / "config.json"));
    config["kv_sharing"] = {{"factor", config["num_hidden_layers"]}};
    golden::write_text(hf / "config.json", config.dump());
  };
  write();
  const auto& tokens = golden.only_sequence().tokens;
  const auto fused = golden::outputs(*load(hf), tokens, 1000);
  EXPECT_EQ(golden::outputs(*load(hf), tokens, 9), fused);
  // The same rows as a file of its own kind, by way of GGUF.
  const auto gguf = folder_.path() / "model.gguf";
  model::write_gguf_model(model::open_checkpoint(hf), {}, gguf);
  const formats::GgufFile file(gguf);
  EXPECT_EQ(file.find_tensor("blk.1.attn_qkv.weight"), nullptr);
  ASSERT_NE(file.find_tensor("blk.1.attn_q.weight"), nullptr);
  EXPECT_EQ(golden::outputs(*load(gguf), tokens, 1000), fused);
}

// ---- copies that share
// ------------------------------------------------------------------------------

std::vector<float> golden_values(const GoldenModel& golden, const std::string& name) {
  const auto found = std::find_if(golden.tensors.begin(),
                                  golden.tensors.end(),
                                  [&](const GoldenTensor& tensor) { return tensor.name == name; });
  return golden::golden_values(*found);
}

std::vector<float> stored_values(const formats::StoredTensor& stored) {
  std::vector<float> values(stored.data.size() / sizeof(float));
  std::copy_n(stored.data.data(), stored.data.size(), reinterpret_cast<std::byte*>(values.data()));
  return values;
}

class SharingCopyTest : public KvSharingTest, public testing::WithParamInterface<std::string> {};

TEST_P(SharingCopyTest, HasMeansAndLoadsInEveryFormat) {
  const auto golden = golden::read_golden(GetParam());
  const auto hf = folder_.path() / "hf";
  write_folder(golden, hf);
  const auto checkpoint = model::open_checkpoint(hf);
  const auto change = methods::sharing_copy(checkpoint, methods::kv_layout("2", 2));
  const auto copy = folder_.path() / "copy";
  model::write_hugging_face_model(checkpoint, core::TensorType::kF32, copy, {}, &change);
  const auto shared = model::open_checkpoint(copy);
  EXPECT_EQ(shared.spec.kv_source, (std::vector<int64_t>{0, 0}));
  EXPECT_TRUE(shared.ignored.empty());
  for (const formats::StoredTensor& stored : shared.safetensors->tensors()) {
    auto expected = golden_values(golden, stored.name);
    const bool is_mean = stored.name.find(".k_") != std::string::npos ||
                         stored.name.find(".v_") != std::string::npos;
    if (is_mean) {
      std::string other = stored.name;
      other.replace(other.find("layers.0"), 8, "layers.1");
      const auto second = golden_values(golden, other);
      for (size_t i = 0; i < expected.size(); ++i) {
        expected[i] = static_cast<float>(
            (static_cast<double>(expected[i]) + static_cast<double>(second[i])) / 2);
      }
    }
    EXPECT_EQ(stored_values(stored), expected) << stored.name;
  }
  const auto gguf = folder_.path() / "copy.gguf";
  model::write_gguf_model(checkpoint, {}, gguf, {}, &change);
  const auto& tokens = golden.only_sequence().tokens;
  EXPECT_EQ(golden::outputs(*load(gguf), tokens, 1000), golden::outputs(*load(copy), tokens, 7));
}

INSTANTIATE_TEST_SUITE_P(Golden,
                         SharingCopyTest,
                         testing::Values("llama", "llama_bias", "qwen2", "qwen3"),
                         [](const auto& entry) { return entry.param; });

TEST_F(KvSharingTest, ACopyWithOneLayerAGroupIsThePlainConversion) {  // [05 §6.1]
  const auto hf = folder_.path() / "hf";
  write_folder(golden::read_golden("llama"), hf);
  const auto checkpoint = model::open_checkpoint(hf);
  const auto change = methods::sharing_copy(checkpoint, methods::kv_layout("1", 2));
  model::write_gguf_model(checkpoint, {}, folder_.path() / "plain.gguf");
  model::write_gguf_model(checkpoint, {}, folder_.path() / "copy.gguf", {}, &change);
  EXPECT_EQ(golden::read_text(folder_.path() / "plain.gguf"),
            golden::read_text(folder_.path() / "copy.gguf"));
}

TEST_F(KvSharingTest, QuantisedKeysAndValuesBecomeHalves) {
  const auto hf = folder_.path() / "hf";
  write_folder(golden::read_golden("llama"), hf);
  const auto quantised = folder_.path() / "q8_0.gguf";
  model::write_gguf_model(model::open_checkpoint(hf), "q8_0", quantised);
  const auto checkpoint = model::open_checkpoint(quantised);
  const auto change = methods::sharing_copy(checkpoint, methods::kv_layout("2", 2));
  const auto kept = folder_.path() / "kept.gguf";
  model::write_gguf_model(checkpoint, {}, kept, {}, &change);
  const auto again = folder_.path() / "again.gguf";
  model::write_gguf_model(checkpoint, "q8_0", again, {}, &change);
  EXPECT_EQ(model::open_checkpoint(kept).tensor("blk.0.attn_k.weight").type,
            core::TensorType::kF16);
  EXPECT_EQ(model::open_checkpoint(kept).tensor("blk.0.attn_q.weight").type,
            core::TensorType::kQ8_0);
  EXPECT_EQ(model::open_checkpoint(again).tensor("blk.0.attn_k.weight").type,
            core::TensorType::kQ8_0);
}

TEST_F(KvSharingTest, GroupsOfUnlikeWindowsAreRefused) {
  const auto hf = folder_.path() / "hf";
  write_folder(golden::read_golden("gemma2"), hf);  // windows alternate
  const auto checkpoint = model::open_checkpoint(hf);
  EXPECT_THROW(methods::sharing_copy(checkpoint, methods::kv_layout("2", 4)), core::Error);
  const auto change = methods::sharing_copy(checkpoint, methods::kv_layout("0,1,0,1", 4));
  const auto copy = folder_.path() / "copy.gguf";
  model::write_gguf_model(checkpoint, {}, copy, {}, &change);
  EXPECT_EQ(model::open_checkpoint(copy).spec.kv_source, (std::vector<int64_t>{0, 1, 0, 1}));
}

}  // namespace
}  // namespace adze
