#pragma once
// Counter-based random numbers: a draw depends on (seed, stream, counter) only, so results do not
// depend on thread count or on the order of draws.
// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

#include <array>
#include <cstdint>

namespace adze::core {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

class Rng {
 public:
  explicit Rng(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint64_t next_uint64() { return at(counter_++); }
  double next_uniform() { return uniform_at(counter_++); }  // in [0, 1), 53 bits

  // The draw numbered `counter`, without advancing.
  uint64_t at(uint64_t counter) const;
  double uniform_at(uint64_t counter) const {
    return static_cast<double>(at(counter) >> 11) * 0x1.0p-53;
  }

  uint64_t seed() const { return seed_; }
  uint64_t counter() const { return counter_; }
  void set_counter(uint64_t counter) { counter_ = counter; }

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint64_t counter_ = 0;
};

}  // namespace adze::core
