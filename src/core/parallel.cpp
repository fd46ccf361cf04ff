#include "core/parallel.h"

#include <string>
#include <thread>
#include <vector>

#include <sched.h>

#include "core/error.h"
#include "core/thread_pool.h"

namespace adze::core {
namespace {

int initial_threads() {
  const unsigned hardware = std::thread::hardware_concurrency();
  return hardware == 0 ? 1 : static_cast<int>(hardware);
}

int& thread_count() {
  static int count = initial_threads();
  return count;
}

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits while `busy()` holds: first on the core (regions follow each other within microseconds),
// then letting others run, so that a thread that shares this core gets on. Returns false when
// `rounds` of that have passed.
constexpr int kSpins = 2000;
template <class Busy>
bool wait_awake(int rounds, Busy&& busy) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (!busy()) {
      return true;
    }
    pause_briefly();
  }
  for (int round = 0; round < rounds; ++round) {
    if (!busy()) {
      return true;
    }
    ::sched_yield();
  }
  return !busy();
}

// What is left of a region, in one word: its number (32 bits), its parts (16) and the next part
// that nobody has taken (16). A part is taken by counting the word up, so no part runs twice, and a
// late thread that still looks at an earlier region finds nothing.
struct Ticket {
  uint64_t word;

  static Ticket open(uint32_t region, int parts) {
    return {static_cast<uint64_t>(region) << 32 | static_cast<uint64_t>(parts) << 16};
  }
  int parts() const { return static_cast<int>(word >> 16 & 0xFFFF); }
  int next() const { return static_cast<int>(word & 0xFFFF); }
};

// One region at a time.
class Pool {
 public:
  ~Pool() {
    stopping_ = true;
    wake();
    for (std::thread& worker : workers_) {
      worker.join();
    }
  }

  void run(int parts, void (*call)(void*, int), void* body) {
    const std::unique_lock lock =
        inside_ ? std::unique_lock<std::mutex>() : std::unique_lock(region_, std::try_to_lock);
    if (!lock.owns_lock()) {
      for (int part = 0; part < parts; ++part) {
        call(body, part);
      }
      return;
    }
    inside_ = true;
    while (static_cast<int>(workers_.size()) < parts - 1) {
      workers_.emplace_back([this] { work(); });
    }
    call_ = call;
    body_ = body;
    unfinished_.store(parts, std::memory_order_relaxed);
    ticket_.store(Ticket::open(++regions_, parts).word, std::memory_order_release);
    wake();
    while (take_part()) {
    }
    while (
        !wait_awake(1 << 20, [this] { return unfinished_.load(std::memory_order_acquire) > 0; })) {
    }
    inside_ = false;
  }

 private:
  // Runs one part if any is left.
  bool take_part() {
    Ticket ticket{ticket_.load(std::memory_order_acquire)};
    while (ticket.next() < ticket.parts()) {
      if (ticket_.compare_exchange_weak(ticket.word, ticket.word + 1, std::memory_order_acq_rel)) {
        // The region cannot end, nor the next one begin, before this part is finished.
        call_(body_, ticket.next());
        unfinished_.fetch_sub(1, std::memory_order_release);
        return true;
      }
    }
    return false;
  }

  void wake() {
    epoch_.fetch_add(1);
    if (sleeping_.load() > 0) {
      epoch_.notify_all();
    }
  }

  void work() {
    inside_ = true;  // a region opened by a part runs on this thread alone
    while (!stopping_) {
      const uint32_t epoch = epoch_.load();
      if (take_part()) {
        continue;
      }
      if (!wait_awake(100, [&] { return epoch_.load(std::memory_order_acquire) == epoch; })) {
        sleeping_.fetch_add(1);
        epoch_.wait(epoch);
        sleeping_.fetch_sub(1);
      }
    }
  }

  std::mutex region_;
  static thread_local bool inside_;
  std::vector<std::thread> workers_;
  void (*call_)(void*, int) = nullptr;
  void* body_ = nullptr;
  uint32_t regions_ = 0;
  std::atomic<uint64_t> ticket_ = 0;
  std::atomic<int> unfinished_ = 0;
  std::atomic<uint32_t> epoch_ = 0;
  std::atomic<int> sleeping_ = 0;
  std::atomic<bool> stopping_ = false;
};

thread_local bool Pool::inside_ = false;

RunParts other_pool = nullptr;

}  // namespace

void replace_pool(RunParts run) {
  other_pool = run;
}

namespace internal {

void run_parts(int parts, void (*call)(void* body, int part), void* body) {
  if (other_pool != nullptr) {
    other_pool(parts, call, body);
    return;
  }
  static Pool pool;
  pool.run(parts, call, body);
}

}  // namespace internal

int num_threads() {
  return thread_count();
}

void set_num_threads(int count) {
  if (count < 1 || count > 1024) {
    throw InvalidOption("threads", std::to_string(count), "1 to 1024");
  }
  thread_count() = count;
}

}  // namespace adze::core
