#include "methods/fadam/fadam.h"

#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/optimizer_update/optimizer_update.h"

namespace adze::methods::fadam {
namespace {

// The fast kernel and the reference, side by side on one tensor.
struct Tensor {
  std::vector<float> value, gradient, momentum, fisher;
  std::vector<double> exact, exact_momentum, exact_fisher;

  explicit Tensor(const std::vector<double>& start) : exact(start) {
    for (const double number : start) {
      value.push_back(static_cast<float>(number));
    }
    gradient.resize(value.size());
    momentum.resize(value.size());
    fisher.assign(value.size(), 1);
    exact_momentum.resize(value.size());
    exact_fisher.assign(value.size(), 1);
  }
  void step(const FAdamOptions& options,
            const Update& update,
            const std::vector<double>& g,
            bool decays = true) {
    for (size_t i = 0; i < g.size(); ++i) {
      gradient[i] = static_cast<float>(g[i]);
    }
    fadam_update(options, update, std::vector{span(decays)});
    fadam_reference(options, update, exact, g, exact_momentum, exact_fisher, decays);
  }
  FisherSpan span(bool decays) {
    return {value.data(),
            gradient.data(),
            momentum.data(),
            fisher.data(),
            static_cast<int64_t>(value.size()),
            decays};
  }
};

const std::vector<std::vector<double>> kGradients = {
    {0.1, -0.2, 0.4}, {-0.05, 0.3, 0.2}, {0.2, 0.1, -0.1}};

FAdamOptions sheet_options() {
  return {.beta2 = 0.999, .weight_decay = 0.1};
}

// Section 6.1's input under some settings: the values after three steps.
void expect_third_step(const FAdamOptions& options,
                       const std::vector<double>& expected,
                       double tolerance,
                       double scale = 1) {
  Tensor tensor({1, -2, 0.5});
  for (int64_t t = 1; t <= 3; ++t) {
    std::vector<double> g = kGradients[static_cast<size_t>(t - 1)];
    for (double& entry : g) {
      entry *= scale;
    }
    tensor.step(options, {.learning_rate = 0.01, .gradient_scale = 1, .step = t}, g);
  }
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(tensor.exact[i], expected[i], tolerance) << i;
    EXPECT_NEAR(tensor.value[i], expected[i], 1e-6) << i;
  }
}

TEST(FAdam, GivesTheWorkedExample) {
  expect_third_step(sheet_options(), {.993216873395, -1.99653332514, .495861113897}, 1e-11);
}

TEST(FAdam, GivesTheWorkedExampleStepByStep) {
  Tensor tensor({1, -2, 0.5});
  const std::vector<std::vector<double>> values = {{.997780011472, -1.99778001144, .498847501434},
                                                   {.99604918429, -1.99714826088, .497132044349}};
  const std::vector<std::vector<double>> fisher = {
      {.01, .04, .16}, {.00624812406203, .0650125062531, .0999699849925}};
  const std::vector<std::vector<double>> momentum = {
      {.0999999973542, -.0999999986771, .0999999993386},
      {.0267449523813, .0276583628845, .153255045904}};
  for (size_t t = 0; t < 2; ++t) {
    tensor.step(sheet_options(),
                {.learning_rate = 0.01, .gradient_scale = 1, .step = static_cast<int64_t>(t) + 1},
                kGradients[t]);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(tensor.exact[i], values[t][i], 1e-11);
      EXPECT_NEAR(tensor.exact_fisher[i], fisher[t][i], 1e-12);
      EXPECT_NEAR(tensor.exact_momentum[i], momentum[t][i], 1e-12);
      EXPECT_NEAR(tensor.fisher[i], fisher[t][i], 1e-7);
      EXPECT_NEAR(tensor.momentum[i], momentum[t][i], 1e-6);
    }
  }
}

TEST(FAdam, GivesTheExampleUnderOtherSettings) {
  FAdamOptions options = sheet_options();
  options.weight_decay = 0;
  const std::vector<double> plain = {.9969804201535623, -1.999988468621051, .49646625371916464};
  expect_third_step(options, plain, 1e-14);
  // P3: the scale of gradients does not matter.
  expect_third_step(options, plain, 1e-14, 1e-6);
  expect_third_step(options, plain, 1e-14, 1e-9);
  options.power = 0;
  expect_third_step(options, {.999624000001, -2.000128, .498636000004}, 1e-11);
  options = sheet_options();
  options.power = 1;
  expect_third_step(options, {.99237453743, -1.99773625768, .49821631001}, 1e-11);
  options = sheet_options();
  options.beta1 = 0;
  options.weight_decay = 0;
  options.clip = 0;
  expect_third_step(options, {.9812112470118, -2.0063954334318, .4874554912634}, 1e-12);
}

// Section 6.2.
TEST(FAdam, ClipsAWholeTensor) {
  FAdamOptions options = sheet_options();
  options.weight_decay = 0;
  Tensor tensor({0, 0});
  for (int64_t t = 1; t <= 6; ++t) {
    tensor.step(options,
                {.learning_rate = 0.01, .gradient_scale = 1, .step = t},
                {t == 6 ? 1.0 : 0.01, 0.01});
  }
  EXPECT_NEAR(tensor.exact_fisher[0], .167167111305, 1e-12);
  EXPECT_NEAR(tensor.exact_momentum[0], .499461670885, 1e-12);
  EXPECT_NEAR(tensor.exact_momentum[1], .422079924841, 1e-12);
  EXPECT_NEAR(tensor.exact[0], -.0181387165774, 1e-12);
  EXPECT_NEAR(tensor.exact[1], -.017364899117, 1e-12);
  EXPECT_NEAR(tensor.value[0], -.0181387165774, 1e-7);
}

TEST(FAdam, AgreesWithAnIndependentDerivation) {
  std::ifstream file("src/methods/fadam/golden/steps.json");
  ASSERT_TRUE(file) << "run from the project's root";
  for (const auto& golden : nlohmann::json::parse(file)) {
    const auto& settings = golden["settings"];
    FAdamOptions options{.epsilon_mode = settings["epsilon_mode"],
                         .clip = settings["clip"],
                         .power = settings["power"],
                         .weight_decay = settings["weight_decay"]};
    const auto part = [](const nlohmann::json& numbers, int64_t first, int64_t count) {
      const auto all = numbers.get<std::vector<double>>();
      return std::vector<double>(all.begin() + first, all.begin() + first + count);
    };
    Tensor matrix(part(golden["start"], 0, 35));
    Tensor vector(part(golden["start"], 35, 3));
    for (int64_t t = 1; t <= 6; ++t) {
      const auto& g = golden["gradients"][static_cast<size_t>(t - 1)];
      const Update update{.learning_rate = 0.01, .gradient_scale = 1, .step = t};
      matrix.step(options, update, part(g, 0, 35), true);
      vector.step(options, update, part(g, 35, 3), false);
    }
    const auto expect = [&](const Tensor& tensor, int64_t first) {
      const auto count = static_cast<int64_t>(tensor.value.size());
      const auto values = part(golden["values"], first, count);
      const auto momentum = part(golden["momentum"], first, count);
      const auto fisher = part(golden["fisher"], first, count);
      for (size_t i = 0; i < values.size(); ++i) {
        EXPECT_NEAR(tensor.exact[i], values[i], 1e-13);
        EXPECT_NEAR(tensor.exact_momentum[i], momentum[i], 1e-13);
        EXPECT_NEAR(tensor.exact_fisher[i], fisher[i], 1e-12);
        EXPECT_NEAR(tensor.value[i], values[i], 2e-6);
        EXPECT_NEAR(tensor.momentum[i], momentum[i], 5e-6);
        EXPECT_NEAR(tensor.fisher[i], fisher[i], 2e-6 * std::max(1.0, fisher[i]));
      }
    };
    expect(matrix, 0);
    expect(vector, 35);
  }
}

std::vector<double> random_numbers(size_t count, uint64_t seed, double scale) {
  core::Rng rng(seed);
  std::vector<double> numbers(count);
  for (double& number : numbers) {
    number = (rng.next_uniform() * 2 - 1) * scale;
  }
  return numbers;
}

// P1: the state is Adam's bias-corrected second moment; P2: whatever it began with.
TEST(FAdam, FisherIsAdamsSecondMoment) {
  for (const double start : {0.0, 1.0, 1e6}) {
    Tensor tensor(random_numbers(5, 1, 1));
    tensor.exact_fisher.assign(5, start);
    std::vector<double> moment(5);
    const FAdamOptions options = sheet_options();
    for (int64_t t = 1; t <= 1000; ++t) {
      const auto g = random_numbers(5, static_cast<uint64_t>(t), 0.3);
      tensor.step(options, {.learning_rate = 1e-3, .gradient_scale = 1, .step = t}, g);
      for (size_t i = 0; i < 5; ++i) {
        moment[i] = 0.999 * moment[i] + 0.001 * g[i] * g[i];
        const double corrected = moment[i] / (1 - std::pow(0.999, static_cast<double>(t)));
        ASSERT_NEAR(tensor.exact_fisher[i] / corrected, 1, 1e-12);
        ASSERT_NEAR(static_cast<double>(tensor.fisher[i]) / corrected, 1, 1e-4);
      }
    }
  }
}

// P4: how far a step can go.
TEST(FAdam, StepsStayInTheTrustRegion) {
  FAdamOptions options = sheet_options();
  Tensor tensor(random_numbers(64, 1, 1));
  for (int64_t t = 1; t <= 100; ++t) {
    const auto before = tensor.exact;
    tensor.step(options,
                {.learning_rate = 0.01, .gradient_scale = 1, .step = t},
                random_numbers(64, static_cast<uint64_t>(t), t % 7 == 0 ? 1e3 : 1e-3));
    double sum = 0;
    for (size_t i = 0; i < 64; ++i) {
      sum += std::pow(tensor.exact[i] - before[i], 2);
    }
    ASSERT_LE(std::sqrt(sum / 64),
              0.01 * (1 - std::pow(0.9, static_cast<double>(t)) + 0.1) * (1 + 1e-12));
  }
}

// All five changes off: AdamW, but for the place of epsilon, which is the same here.
TEST(FAdam, WithoutItsChangesItIsAdamW) {
  const FAdamOptions options{.beta2 = 0.999,
                             .epsilon_mode = "fixed",
                             .clip = 0,
                             .weight_decay = 0.1,
                             .decay = "decoupled",
                             .natural_momentum = false,
                             .debias = true};
  expect_third_step(options, {.9777811678, -1.9900538733, .4735724019}, 1e-9);
}

TEST(FAdam, ZeroAndUntouchedRowsStayFinite) {
  FAdamOptions options = sheet_options();
  Tensor tensor(random_numbers(40, 1, 1));
  std::vector<double> g(40);
  for (int64_t t = 1; t <= 5; ++t) {
    tensor.step(options, {.learning_rate = 0.01, .gradient_scale = 1, .step = t}, g);
    g.assign(40, 0);
    g[3] = 0.5;  // all other values never get a gradient
  }
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_TRUE(std::isfinite(tensor.value[i]));
    EXPECT_TRUE(std::isfinite(tensor.exact[i]));
  }
}

// As LoRA's first factor in its first step, which the second one, still 0, keeps from any gradient.
TEST(FAdam, WhatHasNoGradientDoesNotDecay) {
  for (const double clip : {0.0, 1.0}) {
    FAdamOptions options = sheet_options();
    options.clip = clip;
    const std::vector<double> start = random_numbers(40, 1, 1);
    Tensor tensor(start);
    const std::vector<float> value = tensor.value;
    const Update first{.learning_rate = 0.01, .gradient_scale = 1, .step = 1};
    tensor.step(options, first, std::vector<double>(40));
    EXPECT_EQ(tensor.value, value);
    EXPECT_EQ(tensor.exact, start);
    // A gradient of one value moves that value alone.
    std::vector<double> g(40);
    g[3] = 0.5;
    tensor.step(options, {.learning_rate = 0.01, .gradient_scale = 1, .step = 2}, g);
    for (size_t i = 0; i < 40; ++i) {
      EXPECT_EQ(tensor.value[i] == value[i], i != 3) << i;
      EXPECT_LT(std::abs(tensor.exact[i] - start[i]), 0.1) << i;
      EXPECT_NEAR(static_cast<double>(tensor.value[i]), tensor.exact[i], 1e-6) << i;
    }
  }
}

TEST(FAdam, BitsDoNotDependOnThreadsNorOnNeighbours) {
  const FAdamOptions options = sheet_options();
  const auto run = [&](int threads, bool beside) {
    const int kept = core::num_threads();
    core::set_num_threads(threads);
    Tensor large(random_numbers(40'001, 1, 1));
    Tensor other(random_numbers(77, 2, 1));
    for (int64_t t = 1; t <= 3; ++t) {
      const auto g = random_numbers(40'001, static_cast<uint64_t>(t), 0.1);
      for (size_t i = 0; i < g.size(); ++i) {
        large.gradient[i] = static_cast<float>(g[i]);
      }
      std::vector<FisherSpan> spans = {large.span(true)};
      if (beside) {
        spans.insert(spans.begin(), other.span(true));
      }
      fadam_update(options, {.learning_rate = 0.01, .gradient_scale = 1, .step = t}, spans);
    }
    core::set_num_threads(kept);
    return large.value;
  };
  const auto alone = run(1, false);
  EXPECT_EQ(run(3, false), alone);
  EXPECT_EQ(run(2, true), alone);
}

TEST(FAdam, WrongOptionsAreNamed) {
  const auto message = [](const char* keys) -> std::string {
    const auto entry = optimizer_entry();
    try {
      entry.make({}, core::parse_keys("fadam", keys, entry.defaults));
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("beta1=1").find("[0, 1)"), std::string::npos);
  EXPECT_NE(message("power=2").find("0 to 1"), std::string::npos);
  EXPECT_NE(message("decay=l2").find("fisher or decoupled"), std::string::npos);
  EXPECT_NE(message("epsilon-mode=max").find("fixed, min or rel"), std::string::npos);
  EXPECT_EQ(message("clip=0,weight-decay=0"), "");
}

}  // namespace
}  // namespace adze::methods::fadam
