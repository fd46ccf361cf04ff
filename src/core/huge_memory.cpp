#include "core/huge_memory.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <new>

#include <sys/mman.h>

namespace adze::core {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kRegion = int64_t{64} << 20;  // pieces are 0.01 to 30 MB: little is left over

int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Places are byte offsets from a 2 MiB aligned start.
class Region {
 public:
  explicit Region(int64_t size) : bytes_(size) {
    // Untouched pages cost nothing, so the room for alignment is free.
    void* address = ::mmap(nullptr,
                           static_cast<size_t>(bytes_ + kHugePage),
                           PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS,
                           -1,
                           0);
    if (address == MAP_FAILED) {
      throw std::bad_alloc();
    }
    mapped_ = static_cast<std::byte*>(address);
    const auto offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(mapped_) % kHugePage);
    start_ = mapped_ + (offset == 0 ? 0 : kHugePage - offset);
    ::madvise(start_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // a wish: failure is harmless
    free_[0] = bytes_;
  }
  ~Region() { ::munmap(mapped_, static_cast<size_t>(bytes_ + kHugePage)); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // The first gap that is large enough; nullptr where there is none.
  std::byte* take(int64_t size) {
    const auto gap = std::find_if(
        free_.begin(), free_.end(), [&](const auto& entry) { return entry.second >= size; });
    if (gap == free_.end()) {
      return nullptr;
    }
    const auto [begin, length] = *gap;
    free_.erase(gap);
    if (length > size) {
      free_[begin + size] = length - size;
    }
    return start_ + begin;
  }

  // Gaps hold zeros: whole pages go back to the system, what is left of others is cleared.
  void give(std::byte* piece, int64_t size) {
    const int64_t begin = piece - start_;
    const int64_t end = begin + size;
    int64_t gap_begin = begin;
    int64_t gap_end = end;
    const auto after = free_.lower_bound(begin);
    if (after != free_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == begin) {
        gap_begin = before->first;
      }
    }
    if (after != free_.end() && after->first == end) {
      gap_end = after->first + after->second;
      free_.erase(after);
    }
    free_[gap_begin] = gap_end - gap_begin;

    // The pages at both ends of the piece go too where the gap covers them.
    const int64_t first_page = std::max(begin / kPage * kPage, round_up(gap_begin, kPage));
    const int64_t last_page = std::min(round_up(end, kPage), gap_end / kPage * kPage);
    if (first_page < last_page &&
        ::madvise(
            start_ + first_page, static_cast<size_t>(last_page - first_page), MADV_DONTNEED) == 0) {
      clear(begin, first_page);
      clear(last_page, end);
    } else {
      clear(begin, end);
    }
  }

  bool unused() const { return free_.size() == 1 && free_.begin()->second == bytes_; }

 private:
  void clear(int64_t begin, int64_t end) {
    if (begin < end) {
      std::memset(start_ + begin, 0, static_cast<size_t>(end - begin));
    }
  }

  std::byte* mapped_;
  std::byte* start_;
  int64_t bytes_;
  std::map<int64_t, int64_t> free_;  // begin -> bytes of each gap; no two touch
};

class Regions {
 public:
  std::byte* take(int64_t size) {
    const std::lock_guard lock(mutex_);
    for (auto& [start, region] : regions_) {
      if (std::byte* piece = region->take(size)) {
        return piece;
      }
    }
    auto region = std::make_unique<Region>(std::max(kRegion, round_up(size, kHugePage)));
    std::byte* piece = region->take(size);
    regions_[piece] = std::move(region);
    return piece;
  }

  void give(std::byte* piece, int64_t size) {
    const std::lock_guard lock(mutex_);
    const auto owner = std::prev(regions_.upper_bound(piece));
    owner->second->give(piece, size);
    if (owner->second->unused()) {
      regions_.erase(owner);
    }
  }

 private:
  std::mutex mutex_;
  std::map<std::byte*, std::unique_ptr<Region>> regions_;  // by start
};

}  // namespace

std::shared_ptr<std::byte> allocate_huge(int64_t bytes) {
  static auto& regions = *new Regions;  // outlives every piece, those of globals too
  const int64_t size = std::max<int64_t>(round_up(bytes, 64), 64);
  return {regions.take(size), [size](std::byte* piece) { regions.give(piece, size); }};
}

}  // namespace adze::core
