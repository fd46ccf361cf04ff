#include "tensor/memory.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include <sys/mman.h>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

namespace adze::tensor {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLeastKept = size_t{1} << 16;
constexpr size_t kHugePage = size_t{1} << 21;

// A block begins with its size, in a line of its own.
struct alignas(kAlignment) Header {
  size_t bytes;  // of the whole block
};

// One per process, never destroyed: tensors may outlive static objects.
class ReusingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, nullptr, &ReusingAllocator::release, c10::Device(c10::DeviceType::CPU)};
    }
    Header* block = take(round_up(bytes + sizeof(Header)));
    return {block + 1, block, &ReusingAllocator::release, c10::Device(c10::DeviceType::CPU)};
  }
  // Raw memory of this allocator would need its header for the deleter: nothing asks for it.
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* target, const void* source, size_t count) const override {
    std::memcpy(target, source, count);
  }

  static ReusingAllocator& instance() {
    static auto* allocator = new ReusingAllocator;
    return *allocator;
  }

 private:
  static size_t round_up(size_t bytes) {
    const size_t unit = bytes < kLeastKept      ? kAlignment
                        : bytes < 4 * kHugePage ? kLeastKept / 2
                                                : kHugePage;
    return (bytes + unit - 1) / unit * unit;
  }

  Header* take(size_t bytes) {
    if (bytes >= kLeastKept) {
      const std::lock_guard lock(mutex_);
      // A block that is at most an eighth too large.
      const auto found = free_.lower_bound(bytes);
      if (found != free_.end() && found->first <= bytes + bytes / 8) {
        Header* block = found->second;
        free_.erase(found);
        free_bytes_ -= block->bytes;
        live_bytes_ += block->bytes;
        return block;
      }
      // Sizes have changed: what lies about is of no use any more.
      if (free_bytes_ > live_bytes_ / 2 + (size_t{64} << 20)) {
        drop_all();
      }
      live_bytes_ += bytes;
    }
    void* memory = nullptr;
    if (::posix_memalign(&memory, bytes >= kHugePage ? kHugePage : kAlignment, bytes) != 0) {
      throw std::bad_alloc();
    }
    if (bytes >= kHugePage) {
      ::madvise(memory, bytes, MADV_HUGEPAGE);
    }
    return new (memory) Header{bytes};
  }

  void give_back(Header* block) {
    if (block->bytes < kLeastKept) {
      std::free(block);
      return;
    }
    const std::lock_guard lock(mutex_);
    live_bytes_ -= block->bytes;
    free_bytes_ += block->bytes;
    free_.emplace(block->bytes, block);
  }

  void drop_all() {
    for (const auto& [bytes, block] : free_) {
      std::free(block);
    }
    free_.clear();
    free_bytes_ = 0;
  }

  static void release(void* block) {
    if (block != nullptr) {
      instance().give_back(static_cast<Header*>(block));
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, Header*> free_;
  size_t free_bytes_ = 0;
  size_t live_bytes_ = 0;  // of blocks that are kept when they come back
};

}  // namespace

void reuse_tensor_memory() {
  c10::SetCPUAllocator(&ReusingAllocator::instance(), /*priority=*/100);
}

}  // namespace adze::tensor
