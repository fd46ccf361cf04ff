#include "methods/fadam/fadam.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "methods/fadam/fadam.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

// What passes share; once for all targets.
#ifndef ADZE_FADAM_PLAN
#define ADZE_FADAM_PLAN
namespace adze::methods::fadam {

constexpr int64_t kBlock = 16384;  // values that one thread takes at a time

struct Block {
  size_t tensor;
  int64_t first;
  int64_t count;
};

// Sums of a block, or of a tensor.
struct Sums {
  double gradient = 0;  // Σ g²
  double natural = 0;   // Σ n²
  double decayed = 0;   // Σ w²
};

// Numbers of one tensor's update.
struct Factors {
  float gradient_scale;
  float keep_fisher;
  float take_fisher;
  float epsilon;
  float power;
  float keep_momentum;
  float take_momentum;  // of the natural gradient, its clip included
  float natural_scale;  // of momentum / divisor where momentum is of gradients
  float direction;      // learning rate, negative; over 1 - beta1^t under debias
  float decay;          // learning rate times weight decay times clip, negative
  bool fisher_decay;
  bool natural_momentum;
};

}  // namespace adze::methods::fadam
#endif

HWY_BEFORE_NAMESPACE();
namespace adze::methods::fadam::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using kernels::HWY_NAMESPACE::kFloats;
using kernels::HWY_NAMESPACE::kLanes;
using kernels::HWY_NAMESPACE::Vector;

HWY_INLINE Vector set(float value) {
  return hn::Set(kFloats, value);
}

// Sums of squares in double.
#if HWY_TARGET == HWY_SCALAR
class Squares {
 public:
  void add(Vector value) {
    const auto wide = static_cast<double>(hn::GetLane(value));
    sum_ += wide * wide;
  }
  double sum() const { return sum_; }

 private:
  double sum_ = 0;
};
#else
class Squares {
 public:
  HWY_INLINE Squares() : sum_(hn::Zero(Doubles())) {}  // a generated one would lack the target
  HWY_INLINE void add(Vector value) {
    const auto low = hn::PromoteTo(Doubles(), hn::LowerHalf(Halves(), value));
    const auto high = hn::PromoteTo(Doubles(), hn::UpperHalf(Halves(), value));
    sum_ = hn::MulAdd(high, high, hn::MulAdd(low, low, sum_));
  }
  HWY_INLINE double sum() const { return hn::GetLane(hn::SumOfLanes(Doubles(), sum_)); }

 private:
  using Halves = hn::Half<kernels::HWY_NAMESPACE::Floats>;
  using Doubles = hn::RepartitionToWide<kernels::HWY_NAMESPACE::Floats>;
  hn::Vec<Doubles> sum_;
};
#endif

HWY_INLINE Vector to_power(Vector fisher, float power) {
  if (power == 0.5F) {
    return hn::Sqrt(fisher);
  }
  HWY_ALIGN float lanes[16];
  hn::StoreU(fisher, kFloats, lanes);
  for (int lane = 0; lane < kLanes; ++lane) {
    lanes[lane] = std::pow(lanes[lane], power);
  }
  return hn::LoadU(kFloats, lanes);
}

// 1 / D: one division serves gradient and value.
HWY_INLINE Vector metric_of(Vector fisher, const Factors& factors) {
  const Vector sum = hn::Add(to_power(fisher, factors.power), set(factors.epsilon));
  return hn::Div(set(1), hn::Max(sum, set(1e-30F)));
}

// The value by the same metric; where no gradient has been there is none, and nothing decays.
HWY_INLINE Vector natural_decay(Vector value, Vector fisher, Vector metric) {
  return hn::IfThenElseZero(hn::Gt(fisher, hn::Zero(kFloats)), hn::Mul(value, metric));
}

// The gradient, or under another order of momentum the momentum, that is preconditioned.
HWY_INLINE Vector source_of(const FisherSpan& tensor, const Factors& factors, int64_t i) {
  return factors.natural_momentum
             ? hn::Mul(hn::LoadU(kFloats, tensor.gradient + i), set(factors.gradient_scale))
             : hn::Mul(hn::LoadU(kFloats, tensor.momentum + i), set(factors.natural_scale));
}

// Pass A: the Fisher information takes the gradient in; momentum too where it is of gradients.
double take_in(const FisherSpan& tensor, const Factors& factors, int64_t first, int64_t count) {
  Squares sum;
  for (int64_t i = first; i < first + count; i += kLanes) {
    const Vector gradient =
        hn::Mul(hn::LoadU(kFloats, tensor.gradient + i), set(factors.gradient_scale));
    const Vector square = hn::Mul(gradient, gradient);
    sum.add(gradient);
    Vector fisher = hn::Mul(square, set(factors.take_fisher));  // [07 §2.2 line 7]
    if (factors.keep_fisher != 0) {  // the first state, whatever it is, never matters
      fisher = hn::MulAdd(hn::LoadU(kFloats, tensor.fisher + i), set(factors.keep_fisher), fisher);
    }
    hn::StoreU(fisher, kFloats, tensor.fisher + i);
    if (!factors.natural_momentum) {
      const Vector momentum = hn::MulAdd(hn::LoadU(kFloats, tensor.momentum + i),
                                         set(factors.keep_momentum),
                                         hn::Mul(gradient, set(factors.take_momentum)));
      hn::StoreU(momentum, kFloats, tensor.momentum + i);
    }
  }
  return sum.sum();
}

// Pass B: how large the natural gradient and the natural decay are.
Sums measure(const FisherSpan& tensor, const Factors& factors, int64_t first, int64_t count) {
  Squares natural;
  Squares decayed;
  const bool with_decay = tensor.decays && factors.fisher_decay;
  for (int64_t i = first; i < first + count; i += kLanes) {
    const Vector fisher = hn::LoadU(kFloats, tensor.fisher + i);
    const Vector metric = metric_of(fisher, factors);
    natural.add(hn::Mul(source_of(tensor, factors, i), metric));
    if (with_decay) {
      decayed.add(natural_decay(hn::LoadU(kFloats, tensor.value + i), fisher, metric));
    }
  }
  return {.natural = natural.sum(), .decayed = decayed.sum()};
}

// Pass C: momentum and values.
void apply(const FisherSpan& tensor, const Factors& factors, int64_t first, int64_t count) {
  for (int64_t i = first; i < first + count; i += kLanes) {
    const Vector fisher = hn::LoadU(kFloats, tensor.fisher + i);
    const Vector metric = metric_of(fisher, factors);
    const Vector natural = hn::Mul(source_of(tensor, factors, i), metric);  // [07 §2.2 line 9]
    Vector value = hn::LoadU(kFloats, tensor.value + i);
    Vector direction = natural;
    if (factors.natural_momentum) {
      // The clip is part of the factor. [07 §2.2 line 11]
      direction = hn::MulAdd(hn::LoadU(kFloats, tensor.momentum + i),
                             set(factors.keep_momentum),
                             hn::Mul(natural, set(factors.take_momentum)));
      hn::StoreU(direction, kFloats, tensor.momentum + i);
    }
    Vector step = hn::Mul(direction, set(factors.direction));
    if (tensor.decays) {
      const Vector decayed = factors.fisher_decay ? natural_decay(value, fisher, metric) : value;
      step = hn::MulAdd(decayed, set(factors.decay), step);  // [07 §2.2 line 12]
    }
    value = hn::Add(value, step);  // [07 §2.2 line 14]
    hn::StoreU(value, kFloats, tensor.value + i);
  }
}

}  // namespace
}  // namespace adze::methods::fadam::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::methods::fadam {

HWY_EXPORT(take_in);
HWY_EXPORT(measure);
HWY_EXPORT(apply);

namespace {

// Tails of tensors are worked on as padded copies, so that the passes see whole vectors.
class Padded {
 public:
  Padded(const FisherSpan& tensor, const Block& block)
      : tensor_(tensor), count_(block.count % 16), begin_(block.first + block.count - count_) {
    copy(tensor.value, value_);
    copy(tensor.gradient, gradient_);
    copy(tensor.momentum, momentum_);
    copy(tensor.fisher, fisher_);
  }
  FisherSpan span() { return {value_, gradient_, momentum_, fisher_, 16, tensor_.decays}; }
  void write_back() const {
    std::copy_n(value_, count_, tensor_.value + begin_);
    std::copy_n(momentum_, count_, tensor_.momentum + begin_);
    std::copy_n(fisher_, count_, tensor_.fisher + begin_);
  }

 private:
  void copy(const float* source, float* target) const {
    std::copy_n(source + begin_, count_, target);
  }

  const FisherSpan& tensor_;
  int64_t count_;
  int64_t begin_;
  float value_[16] = {};
  float gradient_[16] = {};
  float momentum_[16] = {};
  float fisher_[16] = {};
};

std::vector<Block> cut_into_blocks(std::span<const FisherSpan> tensors) {
  std::vector<Block> blocks;
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (int64_t first = 0; first < tensors[i].count; first += kBlock) {
      blocks.push_back({i, first, std::min(kBlock, tensors[i].count - first)});
    }
  }
  return blocks;
}

// Runs pass(span, factors, first, count) over whole vectors of a block, then over its tail.
template <class Pass>
void run_block(const FisherSpan& tensor, const Block& block, Pass&& pass) {
  const int64_t tail = block.count % 16;
  if (block.count > tail) {
    pass(tensor, block.first, block.count - tail);
  }
  if (tail > 0) {
    Padded padded(tensor, block);
    pass(padded.span(), 0, 16);
    padded.write_back();
  }
}

template <class Body>
void for_blocks(const std::vector<Block>& blocks, Body&& body) {
  core::parallel_for(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      body(static_cast<size_t>(i));
    }
  });
}

double root_mean_square(double sum, int64_t count) {
  return std::sqrt(sum / static_cast<double>(count));
}

// [07 §2.3]
double epsilon_for(const FAdamOptions& options, double gradient_size) {
  if (options.epsilon_mode == "rel") {
    return options.epsilon * std::min(1.0, gradient_size);  // [07 §2.2 line 8]
  }
  return options.epsilon_mode == "min" ? std::min(options.epsilon, options.epsilon2 * gradient_size)
                                       : options.epsilon;
}

double clip_factor(const FAdamOptions& options, double size) {
  return options.clip == 0 ? 1 : 1 / std::max(1.0, size / options.clip);  // [07 §2.2 line 10]
}

Factors first_factors(const FAdamOptions& options, const Update& update) {
  const auto t = static_cast<double>(update.step);
  // Debiased: it is 0 in the first step. [07 §2.2 line 6]
  const double beta2 =
      options.beta2 * (1 - std::pow(options.beta2, t - 1)) / (1 - std::pow(options.beta2, t));
  const double debias = options.debias ? 1 - std::pow(options.beta1, t) : 1;
  const auto narrow = [](double value) { return static_cast<float>(value); };
  return {.gradient_scale = narrow(update.gradient_scale),
          .keep_fisher = narrow(beta2),
          .take_fisher = narrow(1 - beta2),
          .epsilon = 0,
          .power = narrow(options.power),
          .keep_momentum = narrow(options.beta1),
          .take_momentum = narrow(1 - options.beta1),
          .natural_scale = narrow(1 / debias),
          .direction = narrow(-update.learning_rate / (options.natural_momentum ? debias : 1)),
          .decay = narrow(-update.learning_rate * options.weight_decay),
          .fisher_decay = options.decay == "fisher",
          .natural_momentum = options.natural_momentum};
}

// All three passes over some tensors.
void update_together(const FAdamOptions& options,
                     const Update& update,
                     std::span<const FisherSpan> tensors) {
  const std::vector<Block> blocks = cut_into_blocks(tensors);
  std::vector<Sums> sums(blocks.size());
  std::vector<Sums> totals(tensors.size());
  std::vector<Factors> factors(tensors.size(), first_factors(options, update));

  for_blocks(blocks, [&](size_t i) {
    const size_t tensor = blocks[i].tensor;
    run_block(
        tensors[tensor], blocks[i], [&](const FisherSpan& span, int64_t first, int64_t count) {
          sums[i].gradient += HWY_DYNAMIC_DISPATCH(take_in)(span, factors[tensor], first, count);
        });
  });
  for (size_t i = 0; i < blocks.size(); ++i) {
    totals[blocks[i].tensor].gradient += sums[i].gradient;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    factors[i].epsilon = static_cast<float>(
        epsilon_for(options, root_mean_square(totals[i].gradient, tensors[i].count)));
  }

  if (options.clip > 0) {
    for_blocks(blocks, [&](size_t i) {
      const size_t tensor = blocks[i].tensor;
      run_block(
          tensors[tensor], blocks[i], [&](const FisherSpan& span, int64_t first, int64_t count) {
            const Sums part = HWY_DYNAMIC_DISPATCH(measure)(span, factors[tensor], first, count);
            sums[i].natural += part.natural;
            sums[i].decayed += part.decayed;
          });
    });
    for (size_t i = 0; i < blocks.size(); ++i) {
      totals[blocks[i].tensor].natural += sums[i].natural;
      totals[blocks[i].tensor].decayed += sums[i].decayed;
    }
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto natural = static_cast<float>(
        clip_factor(options, root_mean_square(totals[i].natural, tensors[i].count)));
    (options.natural_momentum ? factors[i].take_momentum : factors[i].direction) *= natural;
    if (factors[i].fisher_decay) {  // [07 §2.2 line 13]
      factors[i].decay *= static_cast<float>(
          clip_factor(options, root_mean_square(totals[i].decayed, tensors[i].count)));
    }
  }

  for_blocks(blocks, [&](size_t i) {
    const size_t tensor = blocks[i].tensor;
    run_block(
        tensors[tensor], blocks[i], [&](const FisherSpan& span, int64_t first, int64_t count) {
          HWY_DYNAMIC_DISPATCH(apply)(span, factors[tensor], first, count);
        });
  });
}

}  // namespace

void fadam_update(const FAdamOptions& options,
                  const Update& update,
                  std::span<const FisherSpan> tensors) {
  // So many values that a third-level cache holds them and their state from pass to pass.
  constexpr int64_t kTogether = int64_t{1} << 19;  // 8 MB
  for (size_t first = 0; first < tensors.size();) {
    size_t end = first;
    for (int64_t values = 0; end < tensors.size(); ++end) {
      values += tensors[end].count;
      if (values > kTogether && end > first) {
        break;
      }
    }
    update_together(options, update, tensors.subspan(first, end - first));
    first = end;
  }
}

namespace {

class FAdam : public train::TwoMomentOptimizer<FisherSpan> {
 public:
  FAdam(const std::vector<train::Parameter>& parameters, const FAdamOptions& options)
      : TwoMomentOptimizer(parameters), options_(options) {}

  void step(double learning_rate, double gradient_scale) override {
    fadam_update(options_,
                 {.learning_rate = learning_rate,
                  .gradient_scale = gradient_scale,
                  .step = next_step()},  // [07 §2.2 line 4]
                 spans());
  }
  double usual_clip_norm() const override { return 0; }  // it clips the natural gradient

 private:
  FAdamOptions options_;
};

void require(bool holds, const char* field, const std::string& value, const char* legal) {
  if (!holds) {
    throw core::InvalidOption(fmt::format("optimizer fadam: {}", field), value, legal);
  }
}

}  // namespace

void FAdamOptions::validate() const {
  const auto number = [](bool holds, const char* field, double value, const char* legal) {
    require(holds, field, fmt::format("{}", value), legal);
  };
  number(beta1 >= 0 && beta1 < 1, "beta1", beta1, "[0, 1)");
  number(beta2 >= 0 && beta2 < 1, "beta2", beta2, "[0, 1)");
  number(epsilon >= 0 && epsilon <= 1, "epsilon", epsilon, "0 to 1");
  number(epsilon2 >= 0 && epsilon2 <= 1, "epsilon2", epsilon2, "0 to 1");
  number(clip >= 0 && clip <= 1e6, "clip", clip, "0 to 1e6");
  number(power >= 0 && power <= 1, "power", power, "0 to 1");
  number(weight_decay >= 0 && weight_decay <= 10, "weight-decay", weight_decay, "0 to 10");
  require(epsilon_mode == "fixed" || epsilon_mode == "min" || epsilon_mode == "rel",
          "epsilon-mode",
          epsilon_mode,
          "fixed, min or rel");
  require(decay == "fisher" || decay == "decoupled", "decay", decay, "fisher or decoupled");
}

std::unique_ptr<train::Optimizer> make_fadam(std::vector<train::Parameter> parameters,
                                             const FAdamOptions& options) {
  return std::make_unique<FAdam>(parameters, options);
}

train::OptimizerEntry optimizer_entry() {
  return train::make_optimizer_entry<FAdamOptions>(
      "fadam", "natural gradient by a diagonal Fisher matrix (FAdam)", make_fadam);
}

}  // namespace adze::methods::fadam
#endif
