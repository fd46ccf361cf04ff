#pragma once
// The only thread pool: OpenMP, on the libgomp that libtorch uses (a second pool would halve
// throughput). Thread sanitizer does not understand libgomp, so under it std::jthread takes over.
// Work is cut by index, never by thread count, wherever the cut could change a result.

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace adze::core {

int num_threads();               // threads a parallel region uses; at least 1
void set_num_threads(int count);  // throws InvalidOption outside [1, 1024]

namespace internal {

// Keeps the first exception of a region, to be thrown where the region was opened.
class FirstException {
 public:
  template <class Body>
  void run(Body&& body) {
    try {
      body();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!first_) {
        first_ = std::current_exception();
      }
    }
  }
  void rethrow() const {
    if (first_) {
      std::rethrow_exception(first_);
    }
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

}  // namespace internal

// Runs body(thread) once on each of `threads` threads, 0 <= thread < threads. The caller is
// thread 0. Regions do not nest.
template <class Body>
void parallel_region(int threads, Body&& body) {
  if (threads <= 1) {
    body(0);
    return;
  }
  internal::FirstException failure;
#if defined(__SANITIZE_THREAD__)
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread) {
    others.emplace_back([&, thread] { failure.run([&] { body(thread); }); });
  }
  failure.run([&] { body(0); });
  others.clear();  // joins
#else
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int thread = 0; thread < threads; ++thread) {
    failure.run([&] { body(thread); });
  }
#endif
  failure.rethrow();
}

// Runs body(begin, end) over a static partition of [0, count); parts are multiples of `grain`.
template <class Body>
void parallel_for(int64_t count, int64_t grain, Body&& body) {
  const int64_t units = (count + grain - 1) / grain;
  const int64_t threads = units < num_threads() ? units : num_threads();
  if (threads <= 1) {
    if (count > 0) {
      body(int64_t{0}, count);
    }
    return;
  }
  parallel_region(static_cast<int>(threads), [&](int thread) {
    const int64_t begin = units * thread / threads * grain;
    const int64_t end = units * (thread + 1) / threads * grain;
    body(begin, end < count ? end : count);
  });
}

// Runs body(item) once for each item in [0, count), handed out one by one: for items of unequal cost
// whose results do not depend on who computes them.
template <class Body>
void parallel_items(int64_t count, Body&& body) {
  std::atomic<int64_t> next = 0;
  const int64_t threads = count < num_threads() ? count : num_threads();
  parallel_region(static_cast<int>(threads), [&](int) {
    for (int64_t item = next++; item < count; item = next++) {
      body(item);
    }
  });
}

}  // namespace adze::core
