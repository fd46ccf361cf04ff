#include "infer/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <numeric>

namespace adze::infer {
namespace {

// 64 floats are four cache lines, and leave 768 maxima of a vocabulary of 49,152.
constexpr size_t kBlock = 64;
// Sums are kept in this many partial sums, so that every instruction set adds in the same order.
constexpr size_t kLanes = 16;

// The compiler's own vectors: it does not vectorise loops over float comparisons by itself, since
// they could trap.
constexpr size_t kWidth = 4;
using Floats = float __attribute__((vector_size(kWidth * sizeof(float))));
using Integers = int32_t __attribute__((vector_size(kWidth * sizeof(int32_t))));

Floats load(const float* values) {
  Floats result;
  std::memcpy(&result, values, sizeof(result));
  return result;
}

// exp(x) for x <= 0, within 3e-7 relative; below -87 (denormal results) it stays at exp(-87).
Floats fast_exp(Floats x) {
  x = x < -87.0F ? Floats{} - 87.0F : x;
  // Adding 1.5 x 2^23 rounds to an integer and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0F;
  const Floats shifted = x * 1.44269504F + kRound;
  const Floats power = shifted - kRound;
  // ln(2) in two parts, the first of few bits, so that its product with `power` is exact.
  const Floats rest = (x - power * 0.693359375F) + power * 2.12194440e-4F;  // within ln(2) / 2
  Floats sum = rest * (1.0F / 720.0F);  // Taylor to the 6th order: the next term is below 1.2e-7
  sum = (sum + 1.0F / 120.0F) * rest;
  sum = (sum + 1.0F / 24.0F) * rest;
  sum = (sum + 1.0F / 6.0F) * rest;
  sum = (sum + 0.5F) * rest;
  sum = (sum + 1.0F) * rest + 1.0F;
  return sum * std::bit_cast<Floats>((std::bit_cast<Integers>(shifted) + 127) << 23);
}

float fast_exp(float x) {
  return fast_exp(Floats{x})[0];
}

std::span<const float> block_of(std::span<const float> logits, size_t block) {
  const size_t begin = block * kBlock;
  return logits.subspan(begin, std::min(kBlock, logits.size() - begin));
}

// A block's weights, summed. A last block that is not whole is padded.
float block_weight(std::span<const float> values, float largest) {
  std::array<float, kBlock> padded;
  const float* source = values.data();
  if (values.size() < kBlock) {
    padded.fill(-kLogitInfinity);
    std::copy(values.begin(), values.end(), padded.begin());
    source = padded.data();
  }
  std::array<Floats, kLanes / kWidth> sums{};
  for (size_t i = 0; i < kBlock; i += kLanes) {
    for (size_t part = 0; part < sums.size(); ++part) {
      const Floats logits = load(source + i + part * kWidth);
      sums[part] += fast_exp(logits - largest);
    }
  }
  const Floats sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// Slices of 1/32 below the largest logit; the last slice holds all that is 16 or more below, which
// is less than 1e-7 of it each.
constexpr size_t kSlices = 513;
constexpr float kSlicesPerUnit = 32.0F;

Integers slices_of(Floats logits, float largest) {
  constexpr float kLast = kSlices - 1;
  const Floats slices = (largest - logits) * kSlicesPerUnit;
  return __builtin_convertvector(slices < kLast ? slices : Floats{} + kLast, Integers);
}

size_t slice_of(float logit, float largest) {
  return static_cast<size_t>(slices_of(Floats{} + logit, largest)[0]);
}

// One table a lane: neighbours often fall into the same slice, and an addition to a sum that is
// still on its way to memory would wait for it.
using Slices = std::array<std::array<double, kSlices>, kWidth>;

void add_to_slices(std::span<const float> values,
                   float block_largest,
                   float largest,
                   Slices& slices) {
  if (slice_of(block_largest, largest) == kSlices - 1) {
    slices[0].back() += static_cast<double>(block_weight(values, largest));
    return;
  }
  size_t i = 0;
  for (; i + kWidth <= values.size(); i += kWidth) {
    const Floats logits = load(&values[i]);
    const Floats weights = fast_exp(logits - largest);
    const Integers places = slices_of(logits, largest);
    for (size_t lane = 0; lane < kWidth; ++lane) {
      slices[lane][static_cast<size_t>(places[lane])] += static_cast<double>(weights[lane]);
    }
  }
  for (; i < values.size(); ++i) {
    slices[0][slice_of(values[i], largest)] += static_cast<double>(fast_exp(values[i] - largest));
  }
}

// Appends those of `count` logits from `first` on that are in the slice and not forbidden.
void append_slice(std::span<const float> logits,
                  size_t first,
                  size_t count,
                  float largest,
                  size_t slice,
                  std::vector<Candidate>& candidates) {
  Floats values = Floats{} - kLogitInfinity;
  if (count == kWidth) {
    values = load(&logits[first]);
  } else {
    std::memcpy(&values, &logits[first], count * sizeof(float));
  }
  const Integers places = slices_of(values, largest);
  for (size_t lane = 0; lane < count; ++lane) {
    if (static_cast<size_t>(places[lane]) == slice && values[lane] > -kLogitInfinity) {
      candidates.push_back({values[lane], static_cast<int32_t>(first + lane), 0.0F});
    }
  }
}

}  // namespace

float find_maxima(std::span<const float> logits, std::vector<float>& maxima, float* poison) {
  maxima.resize((logits.size() + kBlock - 1) / kBlock);
  float largest = -kLogitInfinity;
  std::array<Floats, kLanes / kWidth> bad{};
  for (size_t block = 0; block < maxima.size(); ++block) {
    const auto values = block_of(logits, block);
    std::array<Floats, kLanes / kWidth> tops;
    tops.fill(Floats{} - kLogitInfinity);
    size_t i = 0;
    for (; i + kLanes <= values.size(); i += kLanes) {
      for (size_t part = 0; part < tops.size(); ++part) {
        const Floats value = load(values.data() + i + part * kWidth);
        tops[part] = value > tops[part] ? value : tops[part];
        bad[part] += value * 0.0F;
      }
    }
    for (; i < values.size(); ++i) {
      tops[0][0] = std::max(tops[0][0], values[i]);
      bad[0][0] += values[i] * 0.0F;
    }
    maxima[block] = -kLogitInfinity;
    for (const Floats& top : tops) {
      maxima[block] = std::max({maxima[block], top[0], top[1], top[2], top[3]});
    }
    largest = std::max(largest, maxima[block]);
  }
  for (const Floats& part : bad) {
    *poison += part[0] + part[1] + part[2] + part[3];
  }
  return largest;
}

double total_weight(std::span<const float> logits, float largest) {
  double total = 0;
  for (size_t block = 0; block * kBlock < logits.size(); ++block) {
    total += static_cast<double>(block_weight(block_of(logits, block), largest));
  }
  return total;
}

double set_weights(std::vector<Candidate>& candidates, float largest, float temperature) {
  // A temperature below the smallest float would make 0 / 0 of the largest logit.
  const float divisor = std::max(temperature, std::numeric_limits<float>::min());
  std::array<double, kWidth> sums{};
  const size_t whole = candidates.size() / kWidth * kWidth;
  for (size_t i = 0; i < whole; i += kWidth) {
    Candidate* four = &candidates[i];
    const Floats logits = {four[0].logit, four[1].logit, four[2].logit, four[3].logit};
    const Floats weights = fast_exp((logits - largest) / divisor);
    for (size_t lane = 0; lane < kWidth; ++lane) {
      four[lane].weight = weights[lane];
      sums[lane] += static_cast<double>(weights[lane]);
    }
  }
  for (size_t i = whole; i < candidates.size(); ++i) {
    candidates[i].weight = fast_exp((candidates[i].logit - largest) / divisor);
    sums[0] += static_cast<double>(candidates[i].weight);
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void gather_above(std::span<const float> logits,
                  std::span<const float> maxima,
                  float floor,
                  std::vector<Candidate>& candidates) {
  floor = std::max(floor, std::numeric_limits<float>::lowest());
  // Room for all that the blocks could give, so that the inner loop needs no branch: which logits
  // pass is not predictable.
  const auto open = std::count_if(
      maxima.begin(), maxima.end(), [floor](float largest) { return largest >= floor; });
  candidates.resize(static_cast<size_t>(open) * kBlock);
  size_t count = 0;
  for (size_t block = 0; block < maxima.size(); ++block) {
    if (maxima[block] < floor) {
      continue;
    }
    const size_t end = std::min(logits.size(), (block + 1) * kBlock);
    for (size_t token = block * kBlock; token < end; ++token) {
      candidates[count] = {logits[token], static_cast<int32_t>(token), 0.0F};
      count += logits[token] >= floor ? 1 : 0;
    }
  }
  candidates.resize(count);
}

float floor_of_largest(std::span<const float> maxima, size_t count, std::vector<float>& scratch) {
  if (count > maxima.size()) {
    return -kLogitInfinity;
  }
  // `count` blocks have a maximum at or above the count-th largest maximum.
  scratch.assign(maxima.begin(), maxima.end());
  const auto bound = scratch.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(scratch.begin(), bound, scratch.end(), std::greater<>());
  return *bound;
}

Candidate share_cutoff(std::span<const float> logits,
                       std::span<const float> maxima,
                       float largest,
                       double share,
                       std::vector<Candidate>& scratch) {
  // The weight of each slice of logits, from the largest downwards, tells which slice the cutoff is
  // in; only that slice is ranked.
  Slices tables{};
  for (size_t block = 0; block < maxima.size(); ++block) {
    add_to_slices(block_of(logits, block), maxima[block], largest, tables);
  }
  std::array<double, kSlices> slices = tables[0];
  for (size_t slice = 0; slice < kSlices; ++slice) {
    slices[slice] += tables[1][slice] + tables[2][slice] + tables[3][slice];
  }
  double needed = share * std::accumulate(slices.begin(), slices.end(), 0.0);
  size_t slice = 0;
  while (slice + 1 < kSlices && slices[slice] < needed) {
    needed -= slices[slice++];
  }
  scratch.clear();
  for (size_t block = 0; block < maxima.size(); ++block) {
    if (slice_of(maxima[block], largest) > slice) {
      continue;
    }
    const size_t end = std::min(logits.size(), (block + 1) * kBlock);
    for (size_t token = block * kBlock; token < end; token += kWidth) {
      append_slice(logits, token, std::min(end - token, kWidth), largest, slice, scratch);
    }
  }
  set_weights(scratch, largest, 1.0F);
  return weight_cutoff(scratch, needed);
}

void keep_best(std::vector<Candidate>& candidates, size_t count) {
  if (count < candidates.size()) {
    const auto bound = candidates.begin() + static_cast<std::ptrdiff_t>(count);
    std::nth_element(candidates.begin(), bound, candidates.end(), ranks_before);
    candidates.erase(bound, candidates.end());
  }
}

Candidate weight_cutoff(std::vector<Candidate>& candidates, double needed) {
  // Each round halves the range that holds the cutoff; the part above it is all kept.
  auto begin = candidates.begin();
  auto end = candidates.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, ranks_before);
    double upper = 0;
    for (auto candidate = begin; candidate != middle; ++candidate) {
      upper += static_cast<double>(candidate->weight);
    }
    if (upper >= needed) {
      end = middle;
    } else {
      needed -= upper;
      begin = middle;
    }
  }
  return *begin;
}

}  // namespace adze::infer
