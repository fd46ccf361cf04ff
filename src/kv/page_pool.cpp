#include "kv/page_pool.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/check.h"
#include "core/huge_memory.h"

namespace adze::kv {
namespace {

std::shared_ptr<std::byte> allocate_memory(int64_t bytes) {
  try {
    return core::allocate_huge(bytes);
  } catch (const std::bad_alloc&) {
    throw CacheFull(fmt::format("[cache] the system gave no {} bytes", bytes));
  }
}

}  // namespace

PageRef::PageRef(const PageRef& other) : page_(other.page_) {
  if (page_ != nullptr) {
    ++page_->references;
  }
}

PageRef::PageRef(PageRef&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}

PageRef& PageRef::operator=(PageRef other) noexcept {
  std::swap(page_, other.page_);
  return *this;
}

PageRef::~PageRef() {
  if (page_ != nullptr && --page_->references == 0) {
    page_->pool->release(page_);
  }
}

PagePool::PagePool(int64_t budget_bytes) : budget_bytes_(budget_bytes) {}

PagePool::~PagePool() {
  // A reference that outlives its pool is our bug; destructors cannot throw, so the pages leak.
  if (used_bytes_ == 0) {
    trim();
  }
}

PageRef PagePool::allocate(int64_t bytes) {
  core::check(bytes > 0, "page bytes, got ", bytes);
  if (used_bytes_ + bytes > budget_bytes_) {
    throw CacheFull(
        fmt::format("[cache] expected at most {} bytes in all, got {} in use and {} more",
                    budget_bytes_,
                    used_bytes_,
                    bytes));
  }
  PageRef::Page* page = nullptr;
  auto& spare = spare_[bytes];
  if (!spare.empty()) {
    page = spare.back();
    spare.pop_back();
    spare_bytes_ -= bytes;
    page->references = 1;
  } else {
    free_spares(used_bytes_ + spare_bytes_ + bytes - budget_bytes_);
    // A decoded token reads every page: ordinary 4 KiB ones of the system would cost an address
    // translation each.
    page = new PageRef::Page{this, allocate_memory(bytes), bytes, 1, pages_.size()};
    pages_.push_back(page);
  }
  // What another text has left there would go out with a page that is saved half full.
  std::memset(page->data.get(), 0, static_cast<size_t>(bytes));
  used_bytes_ += bytes;
  ++used_pages_;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return PageRef(page);
}

PageRef PagePool::copy(const PageRef& source) {
  PageRef target = allocate(source.bytes());
  std::memcpy(target.data(), source.data(), static_cast<size_t>(source.bytes()));
  return target;
}

void PagePool::release(PageRef::Page* page) {
  used_bytes_ -= page->bytes;
  --used_pages_;
  spare_bytes_ += page->bytes;
  spare_[page->bytes].push_back(page);
}

// Spare pages of other sizes would otherwise be memory beyond the budget.
void PagePool::free_spares(int64_t bytes) {
  for (auto entry = spare_.begin(); entry != spare_.end() && bytes > 0; ++entry) {
    std::vector<PageRef::Page*>& spare = entry->second;
    while (!spare.empty() && bytes > 0) {
      PageRef::Page* page = spare.back();
      spare.pop_back();
      bytes -= page->bytes;
      spare_bytes_ -= page->bytes;
      pages_[page->index] = pages_.back();
      pages_[page->index]->index = page->index;
      pages_.pop_back();
      delete page;
    }
  }
}

PoolAudit PagePool::audit() const {
  PoolAudit result;
  for (const PageRef::Page* page : pages_) {
    if (page->references > 0) {
      ++result.live_pages;
      result.live_bytes += page->bytes;
    } else {
      result.spare_bytes += page->bytes;
    }
  }
  core::check(result.live_bytes == used_bytes_ && result.spare_bytes == spare_bytes_,
              "pool counts ",
              used_bytes_,
              " bytes, pages hold ",
              result.live_bytes);
  return result;
}

void PagePool::trim() {
  free_spares(spare_bytes_);
}

}  // namespace adze::kv
