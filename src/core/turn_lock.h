#pragma once
// A mutex that serves in the order of asking. std::mutex lets whoever has just unlocked it lock it
// again before those who wait have woken up: one busy thread can keep all others out.

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace adze::core {

class TurnLock {
 public:
  void lock() {
    std::unique_lock guard(mutex_);
    const uint64_t ticket = next_++;
    changed_.wait(guard, [&] { return ticket == serving_; });
  }
  void unlock() {
    {
      const std::lock_guard guard(mutex_);
      ++serving_;
    }
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_ = 0;
  uint64_t serving_ = 0;
};

}  // namespace adze::core
