#pragma once
// (left token, right token) -> the token they merge into and the merge's rank, 0 being the best.
// A flat hash table: looking up pairs is where encoding spends its time.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace adze::text {

struct Merge {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  uint32_t rank = kNone;
  int32_t token = -1;
};

class MergeTable {
 public:
  explicit MergeTable(size_t capacity);  // merges that will be inserted at most

  // Of equal pairs the first stays. Throws core::Error when pairs collide on purpose.
  void insert(int32_t left, int32_t right, Merge merge);

  Merge find(int32_t left, int32_t right) const {  // rank kNone where there is none
    size_t index = slot_of(left, right);
    while (true) {
      const Slot& slot = slots_[index];
      if (slot.left == left && slot.right == right) {
        return slot.merge;
      }
      if (slot.merge.rank == Merge::kNone) {
        return {};
      }
      index = (index + 1) & mask_;
    }
  }

 private:
  struct Slot {
    int32_t left = -1;
    int32_t right = -1;
    Merge merge;  // rank kNone: free
  };

  size_t slot_of(int32_t left, int32_t right) const {
    const uint64_t key =
        (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> shift_);  // 2^64 / golden ratio
  }

  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t mask_;
  int shift_;
};

}  // namespace adze::text
