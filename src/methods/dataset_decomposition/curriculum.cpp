#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "core/error.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"

namespace adze::methods::dataset_decomposition {
namespace {

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. The sheet
// fixes it, so that a plan can be checked against another implementation. [01 §2.10]
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9E3779B97F4A7C15;
    uint64_t value = state_;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return value ^ (value >> 31);
  }
  uint64_t below(uint64_t limit) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * limit) >> 64);
  }

 private:
  uint64_t state_;
};

}  // namespace

// [01 §2.7]
std::vector<uint64_t> curriculum_odds(const std::string& curriculum, int64_t buckets) {
  std::vector<uint64_t> odds(static_cast<size_t>(buckets), 1);
  const auto count = static_cast<uint64_t>(buckets);
  const auto grow = [&](uint64_t factor) {
    for (size_t i = odds.size() - 1; i > 0; --i) {
      odds[i - 1] = odds[i] * factor;
    }
  };
  if (curriculum == "grow-linear") {
    for (size_t i = 0; i < odds.size(); ++i) {
      odds[i] = count - i;
    }
  } else if (curriculum == "grow-p2") {
    grow(2);
  } else if (curriculum == "grow-p100" || curriculum == "shrink-p100") {
    if (buckets > 9) {  // 100^9 is the largest power below 2^63
      throw core::InvalidOption("batches dataset-decomposition: curriculum",
                                curriculum,
                                "another one for more than 9 buckets");
    }
    grow(100);
    if (curriculum == "shrink-p100") {
      std::reverse(odds.begin(), odds.end());
    }
  } else if (curriculum != "uniform") {
    throw core::InvalidOption("batches dataset-decomposition: curriculum",
                              curriculum,
                              "uniform, grow-linear, grow-p2, grow-p100 or shrink-p100");
  }
  return odds;
}

// [01 §2.6]
std::vector<uint8_t> plan_buckets(std::span<const int64_t> batches,
                                  std::span<const uint64_t> odds,
                                  int64_t cycles,
                                  uint64_t seed) {
  core::check(batches.size() == odds.size() && batches.size() < 256, "odds for every bucket");
  SplitMix64 random(seed);
  std::vector<uint8_t> plan;
  for (int64_t cycle = 0; cycle < cycles; ++cycle) {
    std::vector<int64_t> left;
    for (const int64_t count : batches) {
      left.push_back(count * (cycle + 1) / cycles - count * cycle / cycles);
    }
    while (std::any_of(left.begin(), left.end(), [](int64_t count) { return count > 0; })) {
      uint64_t all = 0;
      for (size_t i = 0; i < left.size(); ++i) {
        all += left[i] > 0 ? odds[i] : 0;
      }
      uint64_t draw = random.below(all);
      size_t bucket = 0;
      while (left[bucket] == 0 || draw >= odds[bucket]) {
        draw -= left[bucket] > 0 ? odds[bucket] : 0;
        ++bucket;
      }
      --left[bucket];
      plan.push_back(static_cast<uint8_t>(bucket));
    }
  }
  return plan;
}

}  // namespace adze::methods::dataset_decomposition
