#include "kernels/optimizer_update/optimizer_update.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

struct Tensor {
  std::vector<float> value, gradient, first, second;

  explicit Tensor(int64_t count, uint64_t seed)
      : value(static_cast<size_t>(count)), gradient(value), first(value), second(value) {
    core::Rng rng(seed);
    for (size_t i = 0; i < value.size(); ++i) {
      value[i] = static_cast<float>(rng.next_uniform() * 2 - 1);
    }
    new_gradient(seed + 100);
  }
  void new_gradient(uint64_t seed) {
    core::Rng rng(seed);
    for (float& number : gradient) {
      number = static_cast<float>((rng.next_uniform() * 2 - 1) * 0.1);
    }
  }
  ParameterSpan span(bool decays) {
    return {value.data(),
            gradient.data(),
            first.data(),
            second.data(),
            static_cast<int64_t>(value.size()),
            decays};
  }
};

class OptimizerUpdateTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override { force_isa(supported_isas().front()); }
};

TEST_P(OptimizerUpdateTest, AdamWAgreesWithTheReference) {
  for (const int64_t count : {1, 15, 16, 40003}) {
    Tensor fast(count, 1);
    Tensor slow(count, 1);
    Tensor fast_vector(7, 2);
    Tensor slow_vector(7, 2);
    AdamW options{.learning_rate = 1e-2,
                  .beta1 = 0.9,
                  .beta2 = 0.95,
                  .epsilon = 1e-8,
                  .weight_decay = 0.1,
                  .gradient_scale = 0.7,
                  .step = 1};
    for (; options.step <= 5; ++options.step) {
      adamw_update(options, std::vector{fast.span(true), fast_vector.span(false)});
      adamw_update_reference(options, std::vector{slow.span(true), slow_vector.span(false)});
      fast.new_gradient(static_cast<uint64_t>(options.step));
      slow.new_gradient(static_cast<uint64_t>(options.step));
    }
    for (size_t i = 0; i < fast.value.size(); ++i) {
      ASSERT_NEAR(fast.value[i], slow.value[i], 4e-7) << count << " " << i;
      ASSERT_NEAR(fast.second[i], slow.second[i], 1e-8);
    }
    for (size_t i = 0; i < fast_vector.value.size(); ++i) {
      ASSERT_NEAR(fast_vector.value[i], slow_vector.value[i], 4e-7);
    }
  }
}

// The sheet of FAdam, section 6.1, works AdamW out by hand beside its own method.
TEST_P(OptimizerUpdateTest, AdamWGivesTheWorkedExample) {
  std::vector<float> value = {1, -2, 0.5};
  std::vector<float> first(3);
  std::vector<float> second(3);
  const std::vector<std::vector<float>> gradients = {
      {0.1F, -0.2F, 0.4F}, {-0.05F, 0.3F, 0.2F}, {0.2F, 0.1F, -0.1F}};
  AdamW options{.learning_rate = 0.01,
                .beta1 = 0.9,
                .beta2 = 0.999,
                .epsilon = 1e-8,
                .weight_decay = 0.1,
                .gradient_scale = 1,
                .step = 0};
  for (const auto& gradient : gradients) {
    ++options.step;
    adamw_update(options,
                 std::vector<ParameterSpan>{
                     {value.data(), gradient.data(), first.data(), second.data(), 3, true}});
  }
  EXPECT_NEAR(value[0], 0.9777811678, 3e-7);
  EXPECT_NEAR(value[1], -1.9900538733, 5e-7);
  EXPECT_NEAR(value[2], 0.4735724019, 3e-7);
}

TEST_P(OptimizerUpdateTest, SumsOfSquares) {
  std::vector<float> values(100'003, 0.5F);
  EXPECT_NEAR(sum_of_squares(values.data(), 100'003), 25000.75, 1e-6);
  EXPECT_EQ(sum_of_squares(values.data(), 0), 0.0);
  values[100'002] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(sum_of_squares(values.data(), 100'003)));
  values[100'002] = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(sum_of_squares(values.data(), 100'003)));
}

INSTANTIATE_TEST_SUITE_P(Isa,
                         OptimizerUpdateTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace adze::kernels
