#include "model/tensor_names.h"

#include <set>

#include <gtest/gtest.h>

#include "model/hf_config.h"
#include "tests/support/golden_model.h"

namespace adze::model {
namespace {

TEST(TensorNames, AreThoseOfTheCheckpointsThatTransformersWrites) {
  for (const std::string& name : golden::golden_names()) {
    SCOPED_TRACE(name);
    const auto golden = golden::read_golden(name);
    const auto config = nlohmann::json::parse(golden::read_text(golden.folder / "config.json"));
    const ModelSpec spec = spec_from_config(config, name);
    const Architecture& entry = architecture(spec.architecture);
    std::set<std::string> expected;
    for (const ExpectedTensor& tensor : expected_tensors(spec)) {
      const auto there = hf_name(entry, tensor.name);
      ASSERT_TRUE(there.has_value()) << tensor.name;
      EXPECT_EQ(gguf_name(entry, *there), tensor.name);
      expected.insert(*there);
    }
    std::set<std::string> found;
    for (const auto& tensor : golden.tensors) {
      if (!tensor.name.starts_with("pooler.")) {
        found.insert(tensor.name);
      }
    }
    EXPECT_EQ(found, expected);
  }
}

TEST(TensorNames, PrefixesOfLargerClassesAreUnderstood) {
  EXPECT_EQ(gguf_name(architecture("gemma3"), "language_model.model.layers.3.mlp.up_proj.weight"),
            "blk.3.ffn_up.weight");
  EXPECT_EQ(gguf_name(architecture("gemma3"), "model.language_model.norm.weight"),
            "output_norm.weight");
  EXPECT_EQ(gguf_name(architecture("bert"), "bert.embeddings.LayerNorm.bias"),
            "token_embd_norm.bias");
  EXPECT_TRUE(is_ignorable(architecture("gemma3"), "vision_tower.x.weight"));
  EXPECT_FALSE(is_ignorable(architecture("llama"), "vision_tower.x.weight"));
}

TEST(TensorNames, StrangersAreUnknown) {
  for (const char* name : {"",
                           ".",
                           "model.layers..mlp.up_proj.weight",
                           "model.layers.-1.mlp.up_proj.weight",
                           "model.layers.1000000.mlp.up_proj.weight",
                           "model.layers.1.mlp.up_proj",
                           "model.layers.1.mlp.up_proj.scale",
                           "model.layers.1.embed_tokens.weight",
                           "blk.1.attn_q.weight",
                           "lm_head"}) {
    EXPECT_EQ(gguf_name(architecture("llama"), name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace adze::model
