// Logits of the default model against those of `transformers` on the same dequantised weights
// (golden/make_logits.py).

#include <algorithm>
#include <cmath>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "infer/append_tokens.h"
#include "infer/generator.h"
#include "model/forward.h"
#include "model/model.h"
#include "tests/support/default_model.h"

namespace adze::infer {
namespace {

// Exact caches differ from the reference by the order of sums only; over all logits of 2,300 rows
// the largest difference measured is 2.4e-4, at logits of up to 45.
constexpr double kExactBound = 2e-3;
// Keys and values rounded to 11 bits: 5.4e-2 measured on the same rows.
constexpr double kHalfBound = 1e-1;

class LogitsTest : public DefaultModelTest {
 protected:
  explicit LogitsTest(const std::string& compute = "f32") : DefaultModelTest(compute) {
    std::ifstream file("tests/integration/golden/logits.json");
    golden_ = nlohmann::json::parse(file);
  }

  // The rows' logits, in the order of `rows`.
  std::vector<std::vector<float>> compute(Generator& generator,
                                          const std::vector<int32_t>& tokens,
                                          const std::vector<int64_t>& rows) {
    std::vector<std::vector<float>> result;
    kv::Sequence sequence = generator.new_sequence();
    append_tokens(generator.model(),
                  generator.rotation(),
                  sequence,
                  tokens,
                  256,
                  [&](int64_t first, const at::Tensor& hidden) {
                    for (const int64_t row : rows) {
                      if (row < first || row >= first + hidden.size(0)) {
                        continue;
                      }
                      const at::Tensor logits =
                          model::logits(generator.model(), hidden.narrow(0, row - first, 1));
                      const float* values = logits.const_data_ptr<float>();
                      result.emplace_back(values, values + logits.size(1));
                    }
                  });
    return result;
  }

  // Fails where a logit is further than `bound` from the reference, and returns the largest
  // difference.
  double compare(const CacheOptions& options, double bound) {
    Generator generator(loaded_->model, options);
    const auto drawn = golden_.at("drawn").get<std::vector<size_t>>();
    double largest = 0;
    for (const auto& prompt : golden_.at("prompts")) {
      std::vector<int64_t> rows;
      for (const auto& entry : prompt.at("rows")) {
        rows.push_back(entry.at("row"));
      }
      const auto logits = compute(generator, prompt.at("tokens"), rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        const auto& entry = prompt.at("rows").at(i);
        const auto compare_at = [&](const std::vector<size_t>& tokens, const char* field) {
          for (size_t j = 0; j < tokens.size(); ++j) {
            const auto expected = entry.at(field).at(j).get<double>();
            const double difference =
                std::abs(static_cast<double>(logits[i][tokens[j]]) - expected);
            EXPECT_LT(difference, bound)
                << options.kv_store << ", " << options.kv_policy << ": " << prompt.at("name")
                << ", row " << rows[i] << ", token " << tokens[j] << ", reference " << expected;
            largest = std::max(largest, difference);
          }
        };
        const auto top = entry.at("top").get<std::vector<size_t>>();
        compare_at(top, "top_logits");
        compare_at(drawn, "drawn_logits");
        // No other token may have risen above the likeliest one.
        EXPECT_LT(*std::max_element(logits[i].begin(), logits[i].end()),
                  entry.at("top_logits").at(0).get<double>() + bound)
            << prompt.at("name") << ", row " << rows[i];
      }
    }
    return largest;
  }

  nlohmann::json golden_;
};

TEST_F(LogitsTest, ExactCacheMatchesTheReference) {
  CacheOptions options;
  options.kv_store = "f32";
  RecordProperty("largest_difference", std::to_string(compare(options, kExactBound)));
}

TEST_F(LogitsTest, HalfPrecisionCacheStaysClose) {
  CacheOptions options;
  options.kv_store = "f16";
  const double largest = compare(options, kHalfBound);
  RecordProperty("largest_difference", std::to_string(largest));
  EXPECT_GT(largest, kExactBound / 100) << "a cache of f16 cannot be exact";
}

// Keys are kept unrotated then, and rotate when they are read.
TEST_F(LogitsTest, WindowThatIsNeverFullMatchesTheReference) {
  CacheOptions options;
  options.kv_store = "f32";
  options.kv_policy = "window:window=700";
  RecordProperty("largest_difference", std::to_string(compare(options, kExactBound)));
}

}  // namespace
}  // namespace adze::infer
