#include "core/parallel.h"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::core {
namespace {

class Parallel : public testing::Test {
 protected:
  ~Parallel() override { set_num_threads(before_); }

  int before_ = num_threads();
};

TEST_F(Parallel, RegionRunsEachThreadOnce) {
  std::vector<std::atomic<int>> runs(4);
  parallel_region(4, [&](int thread) { ++runs[static_cast<size_t>(thread)]; });
  for (const auto& count : runs) {
    EXPECT_EQ(count, 1);
  }
}

TEST_F(Parallel, ForCoversEachIndexOnceInWholeGrains) {
  for (const int threads : {1, 2, 3, 7}) {
    set_num_threads(threads);
    for (const int64_t count : {0, 1, 2, 15, 16, 17, 1000}) {
      for (const int64_t grain : {1, 4, 16, 2000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
        parallel_for(count, grain, [&](int64_t begin, int64_t end) {
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end % grain == 0 || end == count);
          for (int64_t i = begin; i < end; ++i) {
            ++visits[static_cast<size_t>(i)];
          }
        });
        for (const auto& visit : visits) {
          ASSERT_EQ(visit, 1) << threads << " threads, " << count << " by " << grain;
        }
      }
    }
  }
}

TEST_F(Parallel, ItemsAreHandedOutOnce) {
  set_num_threads(3);
  for (const int64_t count : {0, 1, 2, 100}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
    for (const int64_t grain : {1, 3, 1000}) {
      parallel_items(count, grain, [&](int64_t item) { ++visits[static_cast<size_t>(item)]; });
    }
    for (const auto& visit : visits) {
      ASSERT_EQ(visit, 3);  // one of each grain
    }
  }
}

TEST_F(Parallel, ExceptionsReachTheCaller) {
  for (const int thrower : {0, 2}) {
    EXPECT_THROW(parallel_region(3,
                                 [&](int thread) {
                                   if (thread == thrower) {
                                     throw std::runtime_error("from a thread");
                                   }
                                 }),
                 std::runtime_error);
  }
  EXPECT_NO_THROW(parallel_region(3, [](int) {}));  // and leave nothing behind
}

TEST_F(Parallel, ManyShortRegionsRunEachPartOnce) {
  std::atomic<int64_t> sum = 0;
  for (int round = 0; round < 20000; ++round) {
    const int parts = 2 + round % 4;
    parallel_region(parts, [&](int part) { sum += part + 1; });
  }
  EXPECT_EQ(sum, 5000 * (3 + 6 + 10 + 15));
}

TEST_F(Parallel, RegionsInsideAndBesideRegionsRunAlone) {
  std::atomic<int> runs = 0;
  parallel_region(3, [&](int) { parallel_region(4, [&](int) { ++runs; }); });
  EXPECT_EQ(runs, 12);
  std::thread other([&] {
    for (int round = 0; round < 2000; ++round) {
      parallel_region(2, [&](int) { ++runs; });
    }
  });
  for (int round = 0; round < 2000; ++round) {
    parallel_region(2, [&](int) { ++runs; });
  }
  other.join();
  EXPECT_EQ(runs, 12 + 8000);
}

TEST_F(Parallel, ThreadCountIsChecked) {
  set_num_threads(5);
  EXPECT_EQ(num_threads(), 5);
  EXPECT_THROW(set_num_threads(0), InvalidOption);
  EXPECT_THROW(set_num_threads(1025), InvalidOption);
  EXPECT_EQ(num_threads(), 5);
}

}  // namespace
}  // namespace adze::core
