#include "core/huge_memory.h"

#include <cstring>
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

TEST(HugeMemory, APieceKeepsItsRegion) {
  auto first = allocate_huge(100);
  auto second = allocate_huge(100);
  first.reset();
  std::memset(second.get(), 1, 100);
  EXPECT_EQ(second.get()[99], std::byte{1});
}

}  // namespace
}  // namespace adze::core
