#include "methods/cross_layer_attention/cross_layer_attention.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "core/error.h"
#include "model/kv_sharing.h"

namespace adze::methods {
namespace {

using Layout = std::vector<int64_t>;

std::vector<int64_t> owners(const Layout& layout) {
  std::vector<int64_t> found;
  for (size_t layer = 0; layer < layout.size(); ++layer) {
    if (std::cmp_equal(layout[layer], layer)) {
      found.push_back(static_cast<int64_t>(layer));
    }
  }
  return found;
}

model::ModelSpec spec_with(const Layout& kv_source) {
  model::ModelSpec spec;
  spec.architecture = "llama";
  spec.vocab_size = 32;
  spec.hidden_size = 64;
  spec.intermediate_size = 64;
  spec.num_layers = static_cast<int64_t>(kv_source.size());
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_dim = 16;
  spec.context_length = 64;
  spec.ropes = {{.base = 10000, .dims = 16, .scaling = {}}};
  spec.kv_source = kv_source;
  return spec;
}

TEST(KvLayout, OwnersAreThoseOfThePaper) {  // [05 §6.6], 20 layers as in its table 1
  EXPECT_EQ(owners(kv_layout("1", 20)).size(), 20U);
  EXPECT_EQ(owners(kv_layout("2", 20)).size(), 10U);
  EXPECT_EQ(owners(kv_layout("3", 20)).size(), 7U);
  EXPECT_EQ(owners(kv_layout("4", 20)).size(), 5U);
  EXPECT_EQ(owners(kv_layout("3", 10)), (Layout{0, 1, 4, 7}));
  EXPECT_EQ(owners(kv_layout("3:remainder=first", 10)), (Layout{0, 1, 4, 7}));
  EXPECT_EQ(owners(kv_layout("3:remainder=last", 10)), (Layout{0, 3, 6, 9}));
  EXPECT_EQ(kv_layout("2", 5), (Layout{0, 1, 1, 3, 3}));
  EXPECT_EQ(kv_layout("2:remainder=last", 5), (Layout{0, 0, 2, 2, 4}));
  EXPECT_EQ(kv_layout("4", 4), (Layout{0, 0, 0, 0}));
  EXPECT_EQ(kv_layout("keep-ends", 20),
            (Layout{0, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15, 17, 17, 19}));
  EXPECT_EQ(kv_layout("dense-front", 20),
            (Layout{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 19}));
  EXPECT_EQ(kv_layout("dense-back", 20),
            (Layout{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 11, 12, 13, 14, 15, 16, 17, 18, 19}));
  for (const char* name : {"keep-ends", "dense-front", "dense-back"}) {
    EXPECT_EQ(owners(kv_layout(name, 20)).size(), 11U) << name;
  }
  EXPECT_EQ(kv_layout("0,0,2,2", 4), (Layout{0, 0, 2, 2}));
}

TEST(KvLayout, EveryOneIsLegalForEveryNumberOfLayers) {
  for (int64_t layers = 1; layers <= 40; ++layers) {
    for (const char* text :
         {"1", "2", "3", "3:remainder=last", "7", "keep-ends", "dense-front", "dense-back"}) {
      Layout layout;
      try {
        layout = kv_layout(text, layers);
      } catch (const core::UsageError&) {  // a factor beyond the layers; a single layer
        EXPECT_LT(layers, 7) << text;
        continue;
      }
      EXPECT_NO_THROW(spec_with(layout).validate()) << text << " of " << layers;
    }
  }
}

TEST(KvLayout, OtherTextsAreRefusedWithTheLegalOnes) {
  for (const char* text : {"",
                           "0",
                           "-1",
                           "21",
                           "2:",
                           "2:remainder=middle",
                           "two",
                           "keepends",
                           "0,",
                           "0,0",
                           "0,x",
                           "99999999999999999999"}) {
    EXPECT_THROW(kv_layout(text, 20), core::InvalidOption) << text;
  }
  try {
    kv_layout("pairs", 20);
    FAIL();
  } catch (const core::InvalidOption& error) {
    EXPECT_NE(std::string(error.what()).find("dense-front"), std::string::npos) << error.what();
  }
}

TEST(KvSource, WhatCannotBeIsRefused) {  // [05 §6.6]
  const auto refusal = [](model::ModelSpec spec) -> std::string {
    try {
      spec.validate();
    } catch (const core::Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(refusal(spec_with({0, 2, 2})).find("layer 1: expected an owning layer from 0 to 1"),
            std::string::npos);  // forward reference
  EXPECT_NE(refusal(spec_with({0, 0, 1})).find("layer 2: expected an owning layer"),
            std::string::npos);  // chain
  EXPECT_NE(refusal(spec_with({0, -1})).find("got -1"), std::string::npos);
  model::ModelSpec spec = spec_with({0, 0, 2});
  spec.windows = {16, 0, 16};
  EXPECT_NE(refusal(spec).find("layer 1: expected a layer with the window 0, got layer 0 with 16"),
            std::string::npos);
  spec.windows = {16, 16, 0};
  EXPECT_EQ(refusal(spec), "accepted");
  spec.ropes.push_back({.base = 500, .dims = 16, .scaling = {}});
  spec.rope_of_layer = {0, 1, 1};
  EXPECT_NE(refusal(spec).find("layer 1: expected a layer that rotates alike"), std::string::npos);
  spec.ropes[1] = spec.ropes[0];
  EXPECT_EQ(refusal(spec), "accepted");
  spec.kv_source = {0, 0};
  EXPECT_NE(refusal(spec).find("one a layer"), std::string::npos);
}

TEST(KvGroups, AreShownByOwner) {
  EXPECT_EQ(model::kv_groups_text({0, 0, 2, 2, 4}), "0-1, 2-3, 4");
  EXPECT_EQ(model::kv_groups_text({0, 1, 2, 2, 1, 2, 2, 2}), "0, 1+4, 2-3+5-7");
  EXPECT_EQ(model::kv_groups_text({}), "");
}

TEST(KvBytes, AreTheFormula) {  // [05 §2.6], its example of 32 layers
  model::ModelSpec spec = spec_with(kv_layout("2", 32));
  spec.kv_heads = 8;
  spec.head_dim = 128;
  EXPECT_EQ(model::kv_bytes_per_token(spec, 2).cached, 65536);
  EXPECT_EQ(model::kv_bytes_per_token(spec, 2).read, 131072);
}

TEST(SharingCopy, OwnersGetTheMeanOfTheirGroup) {
  model::Checkpoint checkpoint;
  checkpoint.spec = spec_with({0, 1, 2, 3, 4});
  checkpoint.spec.query_key_value_bias = true;
  const auto change = sharing_copy(checkpoint, kv_layout("2", 5));
  EXPECT_EQ(change.spec.kv_source, (Layout{0, 1, 1, 3, 3}));
  EXPECT_EQ(change.means.size(), 8U);  // two owners; weights and biases of keys and values
  EXPECT_EQ(change.means.at("blk.3.attn_v.bias"),
            (std::vector<std::string>{"blk.3.attn_v.bias", "blk.4.attn_v.bias"}));
  EXPECT_EQ(change.left_out.size(), 8U);
  EXPECT_TRUE(change.left_out.contains("blk.2.attn_k.weight"));
  EXPECT_TRUE(sharing_copy(checkpoint, kv_layout("1", 5)).means.empty());
}

TEST(SharingCopy, WhatCannotShareIsRefused) {
  model::Checkpoint checkpoint;
  checkpoint.spec = spec_with({0, 0});
  EXPECT_THROW(sharing_copy(checkpoint, {0, 0}), core::Error);
  checkpoint.spec = spec_with({0, 1});
  checkpoint.spec.windows = {16, 0};
  EXPECT_THROW(sharing_copy(checkpoint, {0, 0}), core::Error);
  checkpoint.spec = spec_with({0, 1});
  checkpoint.spec.architecture = "phi3";
  EXPECT_THROW(sharing_copy(checkpoint, {0, 0}), core::Error);
  checkpoint.spec = spec_with({0, 1});
  checkpoint.spec.causal = false;
  EXPECT_THROW(sharing_copy(checkpoint, {0, 0}), core::Error);
}

}  // namespace
}  // namespace adze::methods
