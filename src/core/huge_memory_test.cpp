#include "core/huge_memory.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace adze::core {
namespace {

TEST(HugeMemory, PiecesAreAlignedZeroAndApart) {
  std::vector<std::pair<std::shared_ptr<std::byte>, int64_t>> pieces;
  for (const int64_t bytes : {1, 64, 65, 3 << 20, 100 << 20, 0, 7}) {
    pieces.emplace_back(allocate_huge(bytes), bytes);
    std::byte* address = pieces.back().first.get();
    ASSERT_EQ(reinterpret_cast<uintptr_t>(address) % 64, 0U);
    for (int64_t i = 0; i < bytes; i += 4096) {
      ASSERT_EQ(address[i], std::byte{0});
    }
    std::memset(address, static_cast<int>(pieces.size()), static_cast<size_t>(bytes));
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    for (int64_t j = 0; j < pieces[i].second; j += 61) {
      ASSERT_EQ(pieces[i].first.get()[j], static_cast<std::byte>(i + 1));
    }
  }
}

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0;
  file >> pages >> pages;
  return pages * 4096;
}

// A cache whose pages are now of this size, now of that one, must not hold more than what is live.
TEST(HugeMemory, WhatIsGivenBackIsGone) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer's notes on every address are resident too";
#endif
  constexpr int64_t kLive = int64_t{48} << 20;
  std::mt19937 random(1);
  std::deque<std::pair<std::shared_ptr<std::byte>, int64_t>> pieces;
  int64_t live = 0;
  int64_t start = 0;
  for (int round = 0; round < 20000; ++round) {
    const int64_t bytes = (round / 500 % 2 == 0 ? 24576 : 13056) + int64_t{64} * (random() % 3);
    pieces.emplace_back(allocate_huge(bytes), bytes);
    live += bytes;
    std::byte* piece = pieces.back().first.get();
    ASSERT_EQ(std::count(piece, piece + bytes, std::byte{0}), bytes);
    std::memset(piece, 255, static_cast<size_t>(bytes));
    while (live > kLive) {  // the oldest mostly, as they are forgotten
      const size_t at = random() % 8 == 0 ? random() % pieces.size() : 0;
      live -= pieces[at].second;
      pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (round == 2000) {
      start = resident_bytes();
    }
  }
  EXPECT_LT(resident_bytes() - start, kLive / 3);  // large pages half in use
  const int64_t full = resident_bytes();
  pieces.clear();
  EXPECT_LT(resident_bytes(), full - kLive * 9 / 10);
}

TEST(HugeMemory, APieceKeepsItsRegion) {
  auto first = allocate_huge(100);
  auto second = allocate_huge(100);
  first.reset();
  std::memset(second.get(), 1, 100);
  EXPECT_EQ(second.get()[99], std::byte{1});
}

}  // namespace
}  // namespace adze::core
