#include "model/hf_config.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "model/architectures.h"
#include "tests/support/golden_model.h"

namespace adze::model {
namespace {

nlohmann::json read_config(const std::string& name, const char* file) {
  return nlohmann::json::parse(golden::read_text(golden::kModelsFolder / name / file));
}

void expect_equal(const ModelSpec& a, const ModelSpec& b) {
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.intermediate_size, b.intermediate_size);
  EXPECT_EQ(a.num_layers, b.num_layers);
  EXPECT_EQ(a.heads, b.heads);
  EXPECT_EQ(a.kv_heads, b.kv_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.context_length, b.context_length);
  EXPECT_EQ(a.norm_epsilon, b.norm_epsilon);
  EXPECT_EQ(a.query_key_norm, b.query_key_norm);
  EXPECT_EQ(a.query_key_value_bias, b.query_key_value_bias);
  EXPECT_EQ(a.attention_output_bias, b.attention_output_bias);
  EXPECT_EQ(a.feed_forward_bias, b.feed_forward_bias);
  EXPECT_EQ(a.activation, b.activation);
  EXPECT_NEAR(a.score_scale(), b.score_scale(), 1e-12);
  EXPECT_EQ(a.attention_softcap, b.attention_softcap);
  EXPECT_EQ(a.output_softcap, b.output_softcap);
  EXPECT_EQ(a.embedding_scale, b.embedding_scale);
  EXPECT_EQ(a.windows, b.windows);
  EXPECT_EQ(a.ropes, b.ropes);
  EXPECT_EQ(a.rope_of_layer, b.rope_of_layer);
  EXPECT_EQ(a.tied_output, b.tied_output);
  EXPECT_EQ(a.token_types, b.token_types);
  EXPECT_EQ(a.learned_positions, b.learned_positions);
  EXPECT_EQ(a.kv_source, b.kv_source);
  EXPECT_EQ(a.key_value_norm, b.key_value_norm);
}

TEST(HfConfig, BothSpellingsAreTheSameModel) {
  for (const std::string& name : golden::golden_names()) {
    SCOPED_TRACE(name);
    expect_equal(spec_from_config(read_config(name, "config.json"), "now"),
                 spec_from_config(read_config(name, "config_published.json"), "published"));
  }
}

TEST(HfConfig, WhatIsWrittenReadsBack) {
  for (const std::string& name : golden::golden_names()) {
    SCOPED_TRACE(name);
    const ModelSpec spec = spec_from_config(read_config(name, "config.json"), "first");
    const nlohmann::json written =
        nlohmann::json::parse(config_from_spec(spec, core::TensorType::kBF16).dump());
    EXPECT_EQ(written["torch_dtype"], "bfloat16");
    expect_equal(spec_from_config(written, "second"), spec);
  }
}

TEST(HfConfig, WhatTheForwardPassCannotDoIsRefusedByName) {
  const std::vector<std::tuple<std::string, std::string, nlohmann::json>> refusals = {
      {"llama", "model_type", "gpt2"},
      {"llama", "model_type", nullptr},
      {"llama", "hidden_act", "relu"},
      {"llama", "num_hidden_layers", 1 << 30},
      {"llama", "num_attention_heads", 0},
      {"llama", "num_key_value_heads", 3},
      {"llama", "hidden_size", 63},
      {"llama", "hidden_size", "64"},
      {"llama", "rms_norm_eps", 2},
      {"llama", "max_position_embeddings", -1},
      {"mistral", "sliding_window", 0},
      {"gemma3", "layer_types", {"full_attention"}},
      {"gemma3", "layer_types", std::vector<std::string>(7, "chunked_attention")},
      {"gemma2", "query_pre_attn_scalar", 0},
      {"phi3", "partial_rotary_factor", 2},
      {"bert", "position_embedding_type", "relative_key"},
  };
  for (const auto& [name, key, value] : refusals) {
    auto config = read_config(name, "config_published.json");
    config[key] = value;
    try {
      spec_from_config(config, "file.json");
      ADD_FAILURE() << name << ": " << key << " " << value << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find("file.json"), std::string::npos) << error.what();
    }
  }
}

struct SharingCase {
  std::string model;
  int64_t layers;
  nlohmann::json keys;
  std::vector<int64_t> kv_source;
};

nlohmann::json with_keys(const SharingCase& sharing) {
  auto config = read_config(sharing.model, "config_published.json");
  config["num_hidden_layers"] = sharing.layers;
  config.update(sharing.keys);
  return config;
}

TEST(HfConfig, SharedKeysAndValuesAreReadInEverySpelling) {
  const std::string local = "sliding_attention";
  const std::string global = "full_attention";
  const std::vector<SharingCase> cases = {
      {"llama", 4, nlohmann::json::object(), {0, 1, 2, 3}},
      {"llama", 5, {{"kv_sharing", {{"factor", 2}}}}, {0, 1, 1, 3, 3}},
      {"llama", 5, {{"kv_sharing", {{"factor", 2}, {"remainder", "last"}}}}, {0, 0, 2, 2, 4}},
      {"llama", 4, {{"kv_sharing", {{"source", {0, 1, 0, 1}}}}}, {0, 1, 0, 1}},
      {"llama", 4, {{"kv_sharing", {{"factor", 1}, {"separate_norms", true}}}}, {0, 1, 2, 3}},
      {"qwen3", 4, {{"kv_sharing", {{"factor", 2}}}}, {0, 0, 2, 2}},
      {"llama", 5, {{"use_cla", true}, {"cla_share_factor", 2}}, {0, 0, 2, 2, 4}},
      {"llama", 5, {{"use_cla", true}, {"cla_share_factor", 3}}, {0, 0, 0, 3, 3}},
      {"llama", 4, {{"use_cla", false}, {"cla_share_factor", 2}}, {0, 1, 2, 3}},
      {"llama", 4, {{"num_kv_shared_layers", 0}}, {0, 1, 2, 3}},
      {"llama", 4, {{"num_kv_shared_layers", 2}}, {0, 1, 1, 1}},
      {"gemma3",
       7,
       {{"num_kv_shared_layers", 3},
        {"layer_types", {local, global, local, local, global, local, global}}},
       {0, 1, 2, 3, 1, 3, 1}},
      {"llama", 4, {{"layer_types", "0_0_2_2"}}, {0, 0, 2, 2}},
      {"llama", 4, {{"model_type", "lckv-llama"}, {"layer_types", "0_1_1_1"}}, {0, 1, 1, 1}},
  };
  for (const SharingCase& sharing : cases) {
    SCOPED_TRACE(sharing.model + " " + sharing.keys.dump());
    const ModelSpec spec = spec_from_config(with_keys(sharing), "first");
    EXPECT_EQ(spec.kv_source, sharing.kv_source);
    const nlohmann::json written =
        nlohmann::json::parse(config_from_spec(spec, core::TensorType::kF32).dump());
    expect_equal(spec_from_config(written, "second"), spec);
  }
}

TEST(HfConfig, WindowsOfListedLayersAreRead) {
  const ModelSpec spec = spec_from_config(
      with_keys({"llama", 4, {{"layer_types", "0_1s_1s_0"}, {"sliding_window", 32}}, {}}), "f");
  EXPECT_EQ(spec.kv_source, (std::vector<int64_t>{0, 1, 1, 0}));
  EXPECT_EQ(spec.windows, (std::vector<int64_t>{0, 32, 32, 0}));
}

TEST(HfConfig, SharingThatCannotBeIsRefusedByName) {
  const std::vector<std::pair<SharingCase, std::string>> refusals = {
      {{"llama", 4, {{"kv_sharing", {{"factor", 0}}}}, {}}, "factor"},
      {{"llama", 4, {{"kv_sharing", {{"factor", 5}}}}, {}}, "1 to 4"},
      {{"llama", 4, {{"kv_sharing", {{"factor", 2}, {"remainder", "middle"}}}}, {}}, "remainder"},
      {{"llama", 4, {{"kv_sharing", {{"factor", 2}, {"source", {0, 0, 2, 2}}}}}, {}}, "either"},
      {{"llama", 4, {{"kv_sharing", nlohmann::json::object()}}, {}}, "either"},
      {{"llama", 4, {{"kv_sharing", 2}}, {}}, "an object"},
      {{"llama", 4, {{"kv_sharing", {{"source", {0, 0, 2}}}}}, {}}, "one a layer"},
      {{"llama", 4, {{"kv_sharing", {{"source", {0, 0, 2, 0.5}}}}}, {}}, "whole numbers"},
      {{"llama", 4, {{"kv_sharing", {{"source", {0, 0, 1, 1}}}}}, {}}, "layer 2"},
      {{"llama", 4, {{"kv_sharing", {{"source", {0, 2, 2, 2}}}}}, {}}, "layer 1"},
      {{"llama", 4, {{"use_cla", true}}, {}}, "cla_share_factor"},
      {{"qwen3", 4, {{"use_cla", true}, {"cla_share_factor", 2}}, {}}, "use_cla"},
      {{"llama", 4, {{"use_cla", true}, {"cla_share_factor", 2}, {"num_kv_shared_layers", 2}}, {}},
       "none beside use_cla"},
      {{"llama", 4, {{"num_kv_shared_layers", 4}}, {}}, "0 to 3"},
      {{"llama", 4, {{"num_kv_shared_layers", -1}}, {}}, "0 to 3"},
      {{"gemma3", 7, {{"num_kv_shared_layers", 2}}, {}},
       "an earlier layer"},                                         // the first global one
      {{"llama", 4, {{"layer_types", "0_0_3_3"}}, {}}, "layer 2"},  // reads what follows
      {{"llama", 4, {{"layer_types", "0_0_2_2_4"}}, {}}, "one a layer"},
      {{"llama", 4, {{"layer_types", "0_0_2_2x"}}, {}}, "layer_types"},
      {{"llama", 4, {{"layer_types", "0_0__2"}}, {}}, "layer_types"},
      {{"llama", 4, {{"layer_types", ""}}, {}}, "layer_types"},
      {{"llama", 4, {{"layer_types", "0_0s_2_2"}}, {}}, "window"},  // reader and owner differ
      {{"gemma3", 7, {{"kv_sharing", {{"source", {0, 1, 2, 3, 4, 4, 6}}}}}, {}}, "window"},
      {{"bert", 3, {{"kv_sharing", {{"factor", 3}}}}, {}}, "encoder"},
  };
  for (const auto& [sharing, part] : refusals) {
    SCOPED_TRACE(sharing.model + " " + sharing.keys.dump());
    try {
      spec_from_config(with_keys(sharing), "file.json");
      ADD_FAILURE() << "accepted";
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("file.json"), std::string::npos) << error.what();
    }
  }
}

// Every field of every configuration, spoilt in every way: an Error or a legal spec.
TEST(HfConfig, SpoiltFieldsNeverDoMoreThanFail) {
  const std::vector<nlohmann::json> values = {nullptr,
                                              true,
                                              -1,
                                              0,
                                              1,
                                              7,
                                              1 << 30,
                                              int64_t{1} << 62,
                                              UINT64_MAX,
                                              1e300,
                                              -0.5,
                                              "x",
                                              "",
                                              nlohmann::json::array(),
                                              nlohmann::json::object(),
                                              {1, 2, 3},
                                              {{"type", "yarn"}, {"factor", -1}},
                                              {{"rope_type", 3}},
                                              {{"rope_type", "llama3"}, {"factor", 8}}};
  int64_t refused = 0;
  int64_t accepted = 0;
  for (const std::string& name : golden::golden_names()) {
    const auto original = read_config(name, "config_published.json");
    for (const auto& [key, ignored] : original.items()) {
      for (const auto& value : values) {
        auto config = original;
        config[key] = value;
        try {
          spec_from_config(config, "f").validate();
          ++accepted;
        } catch (const core::Error&) {
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace adze::model
