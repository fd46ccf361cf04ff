#include "kernels/packed_attention/packed_attention.h"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "kernels/random_floats.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

struct Case {
  std::vector<int64_t> starts;
  int64_t heads, kv_heads, head_dim, window;
  bool causal = true;
};

const std::vector<Case> kCases = {
    {{0, 1}, 1, 1, 16, 0},
    {{0, 0, 5, 5, 70}, 3, 1, 64, 0},
    {{0, 7, 14, 207}, 6, 2, 24, 0},
    {{0, 130}, 30, 1, 16, 9},  // more query heads than a block takes
    {{0, 40, 300}, 5, 1, 32, 33},
    {{0, 100, 230}, 4, 4, 16, 0, false},
};

struct Values {
  std::vector<float> query, key, value, pull;
  std::vector<float> result, log_sums, of_query, of_key, of_value;
};

Values make_values(const Case& shape) {
  const int64_t rows = shape.starts.back();
  const int64_t wide = rows * shape.heads * shape.head_dim;
  const int64_t narrow = rows * shape.kv_heads * shape.head_dim;
  const auto size = [](int64_t count) { return std::vector<float>(static_cast<size_t>(count)); };
  return {random_floats(wide, 1, 2),
          random_floats(narrow, 2, 2),
          random_floats(narrow, 3, 1),
          random_floats(wide, 4, 1),
          size(wide),
          size(rows * shape.heads),
          size(wide),
          size(narrow),
          size(narrow)};
}

PackedAttention attention_of(const Case& shape, const Values& values) {
  return {values.query.data(),
          values.key.data(),
          values.value.data(),
          shape.starts,
          shape.heads,
          shape.kv_heads,
          shape.head_dim,
          0.25F,
          shape.window,
          shape.causal};
}

PackedAttentionGradient gradient_of(const Case& shape, Values& values) {
  return {attention_of(shape, values),
          values.result.data(),
          values.log_sums.data(),
          values.pull.data(),
          values.of_query.data(),
          values.of_key.data(),
          values.of_value.data()};
}

Values run(const Case& shape) {
  Values values = make_values(shape);
  packed_attention(attention_of(shape, values), values.result.data(), values.log_sums.data());
  packed_attention_gradient(gradient_of(shape, values));
  return values;
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_NEAR(a[i], b[i], tolerance) << i;
  }
}

class PackedAttentionTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override { force_isa(supported_isas().front()); }
};

TEST_P(PackedAttentionTest, AgreesWithTheReference) {
  for (const Case& shape : kCases) {
    SCOPED_TRACE(testing::Message() << shape.starts.back() << " rows of " << shape.head_dim
                                    << ", window " << shape.window);
    const Values fast = run(shape);
    Values slow = make_values(shape);
    packed_attention_reference(attention_of(shape, slow), slow.result.data(), slow.log_sums.data());
    packed_attention_gradient_reference(gradient_of(shape, slow));
    expect_near(fast.result, slow.result, 2e-6);
    expect_near(fast.log_sums, slow.log_sums, 4e-6);
    expect_near(fast.of_query, slow.of_query, 1e-5);
    expect_near(fast.of_key, slow.of_key, 4e-5);
    expect_near(fast.of_value, slow.of_value, 2e-5);
  }
}

TEST_P(PackedAttentionTest, BitsDependNeitherOnThreadsNorOnNeighbours) {
  // More than one part of 2,048 rows, so that gradients of keys are sums of several.
  const Case shape{{0, 30, 2200}, 2, 1, 16, 0};
  const Case alone{{0, 2170}, 2, 1, 16, 0};
  const int threads = core::num_threads();
  core::set_num_threads(1);
  const Values one = run(shape);
  core::set_num_threads(3);
  const Values three = run(shape);
  Values rest = make_values(shape);
  for (auto* values : {&rest.query, &rest.pull}) {
    values->erase(values->begin(), values->begin() + 30 * 32);
  }
  for (auto* values : {&rest.key, &rest.value}) {
    values->erase(values->begin(), values->begin() + 30 * 16);
  }
  packed_attention(attention_of(alone, rest), rest.result.data(), rest.log_sums.data());
  packed_attention_gradient(gradient_of(alone, rest));
  core::set_num_threads(threads);
  EXPECT_EQ(one.result, three.result);
  EXPECT_EQ(one.of_query, three.of_query);
  EXPECT_EQ(one.of_key, three.of_key);
  EXPECT_EQ(one.of_value, three.of_value);
  for (size_t i = 0; i < 2170 * 16; ++i) {
    ASSERT_EQ(rest.of_key[i], one.of_key[i + 30 * 16]) << i;
    ASSERT_EQ(rest.result[i], one.result[i + 30 * 32]) << i;
  }
}

TEST_P(PackedAttentionTest, NotANumberStaysVisible) {
  const Case shape{{0, 80}, 2, 1, 16, 0};
  Values values = make_values(shape);
  values.key[70 * 16] = NAN;
  packed_attention(attention_of(shape, values), values.result.data(), values.log_sums.data());
  EXPECT_TRUE(std::isnan(values.result[75 * 32]));
  EXPECT_FALSE(std::isnan(values.result[69 * 32]));
}

TEST(PackedAttentionReference, GradientsAreSlopes) {
  const Case shape{{0, 3, 9}, 2, 1, 4, 3};
  Values values = make_values(shape);
  const auto loss = [&] {
    packed_attention_reference(
        attention_of(shape, values), values.result.data(), values.log_sums.data());
    double sum = 0;
    for (size_t i = 0; i < values.result.size(); ++i) {
      sum += static_cast<double>(values.result[i]) * static_cast<double>(values.pull[i]);
    }
    return sum;
  };
  loss();
  packed_attention_gradient_reference(gradient_of(shape, values));
  const auto check = [&](std::vector<float>& inputs, const std::vector<float>& gradients) {
    for (size_t i = 0; i < inputs.size(); i += 5) {
      const float kept = inputs[i];
      const double step = 1.0 / 128;
      inputs[i] = kept + static_cast<float>(step);
      const double above = loss();
      inputs[i] = kept - static_cast<float>(step);
      const double below = loss();
      inputs[i] = kept;
      EXPECT_NEAR((above - below) / (2 * step), gradients[i], 5e-4) << i;
    }
  };
  check(values.query, values.of_query);
  check(values.key, values.of_key);
  check(values.value, values.of_value);
}

INSTANTIATE_TEST_SUITE_P(Isas,
                         PackedAttentionTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& isa) { return isa.param; });

}  // namespace
}  // namespace adze::kernels
