#pragma once
// One byte budget for the cache pages of all sequences. Pages are shared by reference count (fork,
// prefix cache) and copied before the first write to a shared one. Not thread safe: the owner of
// compute is the only user.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "core/error.h"

namespace adze::kv {

// The budget cannot hold another page: an expected outcome for a scheduler, an error for a program
// with one sequence.
class CacheFull : public core::Error {
 public:
  using Error::Error;
};

class PagePool;

// A counted reference; the last one gives the page back.
class PageRef {
 public:
  PageRef() = default;
  PageRef(const PageRef& other);
  PageRef(PageRef&& other) noexcept;
  PageRef& operator=(PageRef other) noexcept;
  ~PageRef();

  explicit operator bool() const { return page_ != nullptr; }
  std::byte* data() const { return page_->data.get(); }
  int64_t bytes() const { return page_->bytes; }
  bool shared() const { return page_->references > 1; }  // others hold it: copy before writing

 private:
  friend class PagePool;
  struct Page {
    PagePool* pool;
    std::shared_ptr<std::byte> data;
    int64_t bytes;
    int64_t references;  // 0: spare
    size_t index;        // in pages_
  };
  explicit PageRef(Page* page) : page_(page) {}
  Page* page_ = nullptr;
};

struct PoolAudit {
  int64_t live_pages = 0;
  int64_t live_bytes = 0;
  int64_t spare_bytes = 0;  // kept for reuse; live and spare together stay within the budget
};

class PagePool {
 public:
  explicit PagePool(int64_t budget_bytes);
  ~PagePool();  // all references must be gone
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  PageRef allocate(int64_t bytes);  // uninitialised, 64-byte aligned; throws CacheFull
  PageRef copy(const PageRef& source);

  int64_t budget_bytes() const { return budget_bytes_; }
  int64_t used_bytes() const { return used_bytes_; }
  int64_t used_pages() const { return used_pages_; }
  int64_t peak_bytes() const { return peak_bytes_; }
  PoolAudit audit() const;  // counted afresh from the pages themselves
  void trim();              // returns spare pages to the system

 private:
  friend class PageRef;
  void release(PageRef::Page* page);
  void free_spares(int64_t bytes);

  int64_t budget_bytes_;
  int64_t used_bytes_ = 0;
  int64_t spare_bytes_ = 0;
  int64_t used_pages_ = 0;
  int64_t peak_bytes_ = 0;
  std::map<int64_t, std::vector<PageRef::Page*>> spare_;  // by size class
  std::vector<PageRef::Page*> pages_;                     // all that exist
};

}  // namespace adze::kv
