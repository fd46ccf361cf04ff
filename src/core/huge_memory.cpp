#include "core/huge_memory.h"

#include <algorithm>
#include <mutex>
#include <new>

#include <sys/mman.h>

namespace adze::core {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kRegion = int64_t{64} << 20;  // pieces are 0.1 to 30 MB: little is left over

struct Region {
  std::byte* mapped;
  std::byte* start;  // 2 MiB aligned
  int64_t bytes;
  int64_t used = 0;

  explicit Region(int64_t size) : bytes(size) {
    // Untouched pages cost nothing, so the room for alignment is free.
    void* address = ::mmap(nullptr,
                           static_cast<size_t>(bytes + kHugePage),
                           PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS,
                           -1,
                           0);
    if (address == MAP_FAILED) {
      throw std::bad_alloc();
    }
    mapped = static_cast<std::byte*>(address);
    const auto offset = static_cast<int64_t>(reinterpret_cast<uintptr_t>(mapped) % kHugePage);
    start = mapped + (offset == 0 ? 0 : kHugePage - offset);
    ::madvise(start, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish: failure is harmless
  }
  ~Region() { ::munmap(mapped, static_cast<size_t>(bytes + kHugePage)); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
};

}  // namespace

std::shared_ptr<std::byte> allocate_huge(int64_t bytes) {
  static std::mutex mutex;
  static std::weak_ptr<Region> newest;
  const int64_t rounded = std::max<int64_t>((bytes + 63) / 64 * 64, 64);
  const std::lock_guard lock(mutex);
  std::shared_ptr<Region> region = newest.lock();
  if (region == nullptr || region->used + rounded > region->bytes) {
    const int64_t size = std::max(kRegion, (rounded + kHugePage - 1) / kHugePage * kHugePage);
    region = std::make_shared<Region>(size);
    newest = region;
  }
  std::byte* piece = region->start + region->used;
  region->used += rounded;
  return {region, piece};
}

}  // namespace adze::core
