#include "formats/quantization_mix.h"

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace adze::formats {
namespace {

using core::TensorType;

TensorType type_in(std::string_view mix,
                   std::string_view name,
                   const std::vector<int64_t>& shape = {512, 1024},
                   int64_t num_layers = 32,
                   bool tied_output = false) {
  return tensor_type_for(*find_quantization_mix(mix), {name, shape, num_layers, tied_output});
}

std::set<int64_t> raised_layers(std::string_view mix, std::string_view tensor, int64_t num_layers) {
  std::set<int64_t> layers;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    const std::string name = "blk." + std::to_string(layer) + "." + std::string(tensor);
    if (type_in(mix, name, {512, 1024}, num_layers) != find_quantization_mix(mix)->type) {
      layers.insert(layer);
    }
  }
  return layers;
}

TEST(QuantizationMix, NamesAndNumbersOfTheFormat) {
  // general.file_type as the GGUF specification lists it.
  const std::vector<std::pair<std::string, uint32_t>> expected = {{"f32", 0},
                                                                  {"f16", 1},
                                                                  {"q4_0", 2},
                                                                  {"q4_1", 3},
                                                                  {"q8_0", 7},
                                                                  {"q5_0", 8},
                                                                  {"q5_1", 9},
                                                                  {"q2_k", 10},
                                                                  {"q3_k", 12},
                                                                  {"q4_k_s", 14},
                                                                  {"q4_k_m", 15},
                                                                  {"q5_k_m", 17},
                                                                  {"q6_k", 18},
                                                                  {"iq4_nl", 25},
                                                                  {"iq4_xs", 30},
                                                                  {"bf16", 32}};
  EXPECT_EQ(quantization_mixes().size(), expected.size());
  for (const auto& [name, number] : expected) {
    ASSERT_NE(find_quantization_mix(name), nullptr) << name;
    EXPECT_EQ(find_quantization_mix(name)->file_type, number) << name;
  }
  EXPECT_EQ(find_quantization_mix("q4_k"), nullptr);
  EXPECT_EQ(find_quantization_mix(""), nullptr);
}

TEST(QuantizationMix, NormsBiasesAndRoutersStayF32) {
  for (const QuantizationMix& mix : quantization_mixes()) {
    EXPECT_EQ(type_in(mix.name, "output_norm.weight", {1024}), TensorType::kF32);
    EXPECT_EQ(type_in(mix.name, "blk.0.attn_norm.weight", {1, 1024}), TensorType::kF32);
    EXPECT_EQ(type_in(mix.name, "blk.0.attn_q.bias", {1024}), TensorType::kF32);
    EXPECT_EQ(type_in(mix.name, "blk.0.ffn_gate_inp.weight", {8, 1024}), TensorType::kF32);
    EXPECT_EQ(type_in(mix.name, "rope_freqs.weight", {32}), TensorType::kF32);
    EXPECT_EQ(type_in(mix.name, "position_embd.weight"), TensorType::kF32);
  }
}

TEST(QuantizationMix, TheOutputGetsSixBitsAtLeast) {
  for (const char* mix :
       {"q2_k", "q3_k", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k_m", "iq4_xs", "q6_k"}) {
    EXPECT_EQ(type_in(mix, "output.weight"), TensorType::kQ6_K) << mix;
    EXPECT_EQ(type_in(mix, "output.weight", {512, 576}), TensorType::kQ8_0) << mix;
    EXPECT_EQ(type_in(mix, "token_embd.weight", {512, 1024}, 32, true), TensorType::kQ6_K) << mix;
    EXPECT_EQ(type_in(mix, "token_embd.weight"), find_quantization_mix(mix)->type) << mix;
  }
  EXPECT_EQ(type_in("q8_0", "output.weight"), TensorType::kQ8_0);
  EXPECT_EQ(type_in("f32", "output.weight"), TensorType::kF32);
  EXPECT_EQ(type_in("bf16", "token_embd.weight", {512, 100}, 32, true), TensorType::kBF16);
}

TEST(QuantizationMix, RaisesTheLayersThatTheRuleNames) {
  const std::set<int64_t> half = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31};
  for (const char* tensor : {"attn_v.weight", "ffn_down.weight", "ffn_down_exps.weight"}) {
    EXPECT_EQ(raised_layers("q4_k_m", tensor, 32), half);
    EXPECT_EQ(raised_layers("q5_k_m", tensor, 32), half);
    EXPECT_EQ(raised_layers("q4_k_s", tensor, 32), (std::set<int64_t>{0, 1, 2, 3}));
    EXPECT_EQ(raised_layers("q2_k", tensor, 3), (std::set<int64_t>{0, 1, 2}));
    EXPECT_TRUE(raised_layers("q4_0", tensor, 32).empty());
    EXPECT_TRUE(raised_layers("q4_k_s", tensor, 7).empty());
  }
  EXPECT_EQ(type_in("q4_k_m", "blk.0.attn_v.weight"), TensorType::kQ6_K);
  EXPECT_EQ(type_in("q4_k_s", "blk.0.ffn_down.weight"), TensorType::kQ5_K);
  for (const char* tensor : {"attn_q.weight",
                             "attn_k.weight",
                             "attn_output.weight",
                             "ffn_up.weight",
                             "ffn_gate.weight"}) {
    EXPECT_TRUE(raised_layers("q4_k_m", tensor, 32).empty()) << tensor;
  }
  EXPECT_EQ(type_in("q4_k_m", "blk.x.attn_v.weight"), TensorType::kQ4_K);
  EXPECT_EQ(type_in("q4_k_m", "v.blk.attn_v.weight"), TensorType::kQ4_K);
}

TEST(QuantizationMix, RowsThatAreNoWholeBlocksFallBack) {
  const std::vector<int64_t> narrow = {512, 576};
  EXPECT_EQ(type_in("q2_k", "blk.0.attn_q.weight", narrow), TensorType::kIQ4_NL);
  EXPECT_EQ(type_in("q4_k_m", "blk.5.attn_v.weight", narrow), TensorType::kQ5_0);
  EXPECT_EQ(type_in("q4_k_m", "blk.6.attn_v.weight", narrow), TensorType::kQ8_0);
  EXPECT_EQ(type_in("q4_k_s", "blk.0.attn_v.weight", narrow), TensorType::kQ5_1);
  EXPECT_EQ(type_in("q4_0", "blk.0.attn_q.weight", {64, 40}), TensorType::kF16);
  EXPECT_EQ(type_in("q6_k", "blk.0.attn_q.weight", {64, 40}), TensorType::kF16);
}

}  // namespace
}  // namespace adze::formats
