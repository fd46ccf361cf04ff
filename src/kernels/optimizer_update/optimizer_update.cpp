#include "kernels/optimizer_update/optimizer_update.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/optimizer_update/optimizer_update.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

struct Factors {
  explicit Factors(const AdamW& options)
      : scale(set(options.gradient_scale)),
        keep_first(set(options.beta1)),
        take_first(set(1 - options.beta1)),
        keep_second(set(options.beta2)),
        take_second(set(1 - options.beta2)),
        epsilon(set(options.epsilon)),
        decay(set(1 - options.learning_rate * options.weight_decay)) {
    const auto step = static_cast<double>(options.step);
    rate = set(-options.learning_rate / (1 - std::pow(options.beta1, step)));
    spread = set(1 / std::sqrt(1 - std::pow(options.beta2, step)));
  }

  static Vector set(double value) { return hn::Set(kFloats, static_cast<float>(value)); }

  Vector scale, keep_first, take_first, keep_second, take_second, epsilon, decay, rate, spread;
};

HWY_INLINE void update_whole(const Factors& factors,
                             const ParameterSpan& parameter,
                             int64_t first) {
  const auto load = [&](const float* values) { return hn::LoadU(kFloats, values + first); };
  const Vector gradient = hn::Mul(load(parameter.gradient), factors.scale);
  const Vector mean =
      hn::MulAdd(load(parameter.first), factors.keep_first, hn::Mul(gradient, factors.take_first));
  const Vector square = hn::MulAdd(load(parameter.second),
                                   factors.keep_second,
                                   hn::Mul(hn::Mul(gradient, gradient), factors.take_second));
  Vector value = load(parameter.value);
  if (parameter.decays) {
    value = hn::Mul(value, factors.decay);
  }
  const Vector divisor = hn::MulAdd(hn::Sqrt(square), factors.spread, factors.epsilon);
  value = hn::MulAdd(hn::Div(mean, divisor), factors.rate, value);
  hn::StoreU(value, kFloats, parameter.value + first);
  hn::StoreU(mean, kFloats, parameter.first + first);
  hn::StoreU(square, kFloats, parameter.second + first);
}

// Fewer values than lanes: by way of padded copies.
void update_rest(const Factors& factors,
                 const ParameterSpan& parameter,
                 int64_t first,
                 int64_t count) {
  HWY_ALIGN float padded[4][16] = {};
  std::copy_n(parameter.value + first, count, padded[0]);
  std::copy_n(parameter.gradient + first, count, padded[1]);
  std::copy_n(parameter.first + first, count, padded[2]);
  std::copy_n(parameter.second + first, count, padded[3]);
  update_whole(factors, {padded[0], padded[1], padded[2], padded[3], kLanes, parameter.decays}, 0);
  std::copy_n(padded[0], count, parameter.value + first);
  std::copy_n(padded[2], count, parameter.first + first);
  std::copy_n(padded[3], count, parameter.second + first);
}

void adamw(const AdamW& options, std::span<const ParameterSpan> parameters) {
  constexpr int64_t kBlock = 16384;  // values: 256 kB of traffic a unit of work
  struct Block {
    const ParameterSpan* parameter;
    int64_t first;
  };
  std::vector<Block> blocks;
  for (const ParameterSpan& parameter : parameters) {
    for (int64_t first = 0; first < parameter.count; first += kBlock) {
      blocks.push_back({&parameter, first});
    }
  }
  const Factors factors(options);
  core::parallel_for(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const Block& block = blocks[static_cast<size_t>(index)];
      const int64_t last = std::min(block.first + kBlock, block.parameter->count);
      int64_t i = block.first;
      for (; i + kLanes <= last; i += kLanes) {
        update_whole(factors, *block.parameter, i);
      }
      if (i < last) {
        update_rest(factors, *block.parameter, i, last - i);
      }
    }
  });
}

double squares(const float* values, int64_t count) {
  constexpr int64_t kBlock = 4096;  // short sums in f32, their totals in double
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  std::vector<double> sums(static_cast<size_t>(blocks));
  core::parallel_for(blocks, 16, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t last = std::min((block + 1) * kBlock, count);
      Vector parts[kParts];
      for (Vector& part : parts) {
        part = hn::Zero(kFloats);
      }
      int64_t i = block * kBlock;
      for (; i + 16 <= last; i += 16) {
        for (int part = 0; part < kParts; ++part) {
          const Vector value = hn::LoadU(kFloats, values + i + part * kLanes);
          parts[part] = hn::MulAdd(value, value, parts[part]);
        }
      }
      auto sum = sum_of_sixteen<double>(parts);
      for (; i < last; ++i) {
        sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
      }
      sums[static_cast<size_t>(block)] = sum;
    }
  });
  double total = 0;
  for (const double sum : sums) {
    total += sum;
  }
  return total;
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(adamw);
HWY_EXPORT(squares);

void adamw_update(const AdamW& options, std::span<const ParameterSpan> parameters) {
  HWY_DYNAMIC_DISPATCH(adamw)(options, parameters);
}

double sum_of_squares(const float* values, int64_t count) {
  return HWY_DYNAMIC_DISPATCH(squares)(values, count);
}

}  // namespace adze::kernels
#endif
