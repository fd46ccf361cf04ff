#include "core/turn_lock.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace adze::core {
namespace {

// Threads that ask again at once, as busy models do, work by turns.
TEST(TurnLock, NobodyIsServedTwiceWhileAnotherWaits) {
  constexpr int kThreads = 3;
  constexpr int kRounds = 30;
  TurnLock lock;
  std::atomic<int> asking = 0;
  std::vector<int> served;  // guarded by the lock
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      ++asking;
      while (asking < kThreads) {
        std::this_thread::yield();
      }
      for (int round = 0; round < kRounds; ++round) {
        const std::lock_guard guard(lock);
        served.push_back(thread);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the others come to wait
      }
    });
  }
  threads.clear();
  ASSERT_EQ(served.size(), static_cast<size_t>(kThreads * kRounds));
  int repeats = 0;
  for (size_t i = 1; i < served.size(); ++i) {
    repeats += served[i] == served[i - 1] ? 1 : 0;
  }
  // Only while the others have not asked yet, or have finished. A std::mutex makes nearly all.
  EXPECT_LT(repeats, kThreads * kRounds / 4);
}

}  // namespace
}  // namespace adze::core
