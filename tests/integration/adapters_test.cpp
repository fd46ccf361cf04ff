// LoRA adapters in PEFT's format against the same weights merged (tests/golden/lora): alone, and
// eight of them with their base in the steps of one engine.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "infer/model_engine.h"
#include "model/adapter.h"
#include "model/checkpoint.h"
#include "model/load_model.h"
#include "tests/support/golden_model.h"
#include "tests/support/temporary_folder.h"

namespace adze {
namespace {

const std::filesystem::path kFolder = "tests/golden/lora";
constexpr int64_t kAdapters = 8;
// The reference is in float64; ours sums in f32, in another order, and keeps the factors apart.
constexpr double kTolerance = 2e-4;

class AdaptersTest : public testing::Test {
 protected:
  void SetUp() override {
    const support::TemporaryFolder folder;
    const auto golden = golden::read_golden("llama");
    golden::write_hugging_face_folder(golden, folder.path() / "base");
    models_.push_back(model::load_model(model::open_checkpoint(folder.path() / "base"),
                                        kernels::Arithmetic::kF32));
    for (int64_t number = 1; number <= kAdapters; ++number) {
      models_.push_back(model::load_adapter(models_.front(), kFolder / std::to_string(number)));
    }
    const auto tokens = core::parse_json(golden::read_text(kFolder / "tokens.json"), "tokens");
    tokens.at("tokens").get_to(tokens_);
    tokens.at("rows").get_to(rows_);
    vocab_ = models_.front()->spec.vocab_size;
  }

  static infer::CacheChoice choice(int64_t adapter) {
    infer::CacheChoice chosen;
    chosen.store = "f32";
    chosen.adapter = adapter;
    return chosen;
  }

  // Logits of all tokens of each adapter's text, in common steps of `rows` tokens a text.
  std::vector<std::vector<float>> logits(const std::vector<int64_t>& adapters, int64_t rows) {
    infer::ModelEngine engine(models_, {.cache_bytes = 64 << 20, .context = 0});
    std::vector<std::unique_ptr<infer::CachedText>> texts;
    for (const int64_t adapter : adapters) {
      texts.push_back(engine.open(choice(adapter), tokens_, 0, true));
      EXPECT_EQ(texts.back()->length(), 0);  // nobody's pages are another adapter's
    }
    std::vector<std::vector<float>> result(adapters.size());
    const auto all = std::span<const int32_t>(tokens_);
    for (int64_t first = 0; first < static_cast<int64_t>(all.size()); first += rows) {
      const int64_t count = std::min(rows, static_cast<int64_t>(all.size()) - first);
      const auto piece = all.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      std::vector<infer::StepPart> parts;
      for (const auto& text : texts) {
        parts.push_back({.text = text.get(), .tokens = piece, .wanted = count});
      }
      const auto found = engine.step(parts);
      for (size_t i = 0; i < found.size(); ++i) {
        result[i].insert(result[i].end(), found[i], found[i] + count * vocab_);
      }
    }
    for (const auto& text : texts) {
      engine.publish(*text, tokens_);
    }
    return result;
  }

  std::vector<model::ModelPtr> models_;  // the base, then the adapters
  std::vector<int32_t> tokens_;
  std::vector<int64_t> rows_;
  int64_t vocab_ = 0;
};

TEST_F(AdaptersTest, AgreeWithMergedWeights) {
  for (int64_t number = 1; number <= kAdapters; ++number) {
    const auto expected = golden::read_floats(kFolder / std::to_string(number) / "logits.bin");
    const auto found = logits({number}, 20).front();
    double largest = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto row = static_cast<size_t>(rows_[i / static_cast<size_t>(vocab_)]);
      const float value =
          found[row * static_cast<size_t>(vocab_) + i % static_cast<size_t>(vocab_)];
      largest = std::isfinite(value)
                    ? std::max(largest, std::abs(static_cast<double>(value) - expected[i]))
                    : INFINITY;
    }
    EXPECT_LT(largest, kTolerance) << number;
  }
}

TEST_F(AdaptersTest, EightInABatchSayWhatEachSaysAlone) {
  std::vector<int64_t> all;
  for (int64_t number = kAdapters; number >= 0; --number) {
    all.push_back(number);
  }
  const auto together = logits(all, 16);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(together[i], logits({all[i]}, 48).front()) << all[i];
  }
  EXPECT_NE(together[0], together[1]);
}

TEST_F(AdaptersTest, ShareTheWeightsOfTheBase) {
  const int64_t base = models_.front()->weight_bytes();
  for (int64_t number = 1; number <= kAdapters; ++number) {
    const int64_t bytes = models_[static_cast<size_t>(number)]->weight_bytes();
    EXPECT_GT(bytes, base);
    EXPECT_LT(bytes, 2 * base);  // factors are padded to 16 rows, a quarter of this width
    EXPECT_EQ(models_[static_cast<size_t>(number)]->embedding, models_.front()->embedding);
  }
}

}  // namespace
}  // namespace adze
