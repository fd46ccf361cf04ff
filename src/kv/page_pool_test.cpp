#include "kv/page_pool.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"

namespace adze::kv {
namespace {

TEST(PagePool, CountsAndReusesPages) {
  PagePool pool(1000);
  PageRef first = pool.allocate(300);
  const std::byte* address = first.data();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(address) % 64, 0U);
  EXPECT_EQ(pool.used_bytes(), 300);
  first = PageRef();
  EXPECT_EQ(pool.used_bytes(), 0);
  EXPECT_EQ(pool.audit().spare_bytes, 300);
  EXPECT_EQ(pool.allocate(300).data(), address);
  pool.trim();
  EXPECT_EQ(pool.audit().spare_bytes, 0);
  EXPECT_EQ(pool.peak_bytes(), 300);
}

TEST(PagePool, RefusesMoreThanItsBudget) {
  PagePool pool(1000);
  const PageRef first = pool.allocate(700);
  EXPECT_THROW(static_cast<void>(pool.allocate(301)), CacheFull);
  EXPECT_EQ(pool.used_bytes(), 700);
  EXPECT_NO_THROW(static_cast<void>(pool.allocate(300)));
}

// Texts of two stores by turns: what the first leaves behind is no memory beyond the budget.
TEST(PagePool, SparePagesOfOtherSizesMakeRoom) {
  PagePool pool(1000);
  const auto resident = [&] { return pool.audit().live_bytes + pool.audit().spare_bytes; };
  std::vector<PageRef> held;
  for (const int64_t bytes : {100, 250, 100, 64}) {
    for (int64_t used = 0; used + bytes <= 1000; used += bytes) {
      held.push_back(pool.allocate(bytes));
      EXPECT_LE(resident(), 1000);
    }
    held.clear();
    EXPECT_EQ(pool.used_bytes(), 0);
  }
  EXPECT_GT(pool.audit().spare_bytes, 0);
}

TEST(PagePool, CopiesKnowThatTheyShare) {
  PagePool pool(1000);
  PageRef first = pool.allocate(64);
  std::memset(first.data(), 7, 64);
  EXPECT_FALSE(first.shared());
  PageRef second = first;
  EXPECT_TRUE(first.shared());
  second = pool.copy(first);
  EXPECT_FALSE(first.shared());
  EXPECT_EQ(0, std::memcmp(first.data(), second.data(), 64));
}

TEST(PagePool, AuditsAfterRandomUse) {
  PagePool pool(1 << 20);
  core::Rng rng(5);
  std::vector<PageRef> held;
  for (int round = 0; round < 5000; ++round) {
    const uint64_t draw = rng.next_uint64();
    if (held.empty() || draw % 3 == 0) {
      held.push_back(pool.allocate(64 << (draw / 3 % 4)));
    } else if (draw % 3 == 1) {
      held.push_back(held[draw / 3 % held.size()]);
    } else {
      held.erase(held.begin() + static_cast<int64_t>(draw / 3 % held.size()));
    }
  }
  EXPECT_EQ(pool.audit().live_bytes, pool.used_bytes());
  held.clear();
  EXPECT_EQ(pool.audit().live_pages, 0);
  EXPECT_EQ(pool.used_bytes(), 0);
}

}  // namespace
}  // namespace adze::kv
