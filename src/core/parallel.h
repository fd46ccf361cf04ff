#pragma once
// The only thread pool of inference. Work is cut into parts by index, never by who is free, so that
// nothing but time depends on the threads.
//
// Why not OpenMP: its threads spin until all have arrived. On a machine that does something else as
// well, two of them on one core then cost a time slice at each of some 200 regions a token, and
// decode fell to a seventeenth (docs/log.md). Here a late thread is not waited for: whoever is
// awake takes its part, and who has to wait lets others run.

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <type_traits>

namespace adze::core {

int num_threads();                // threads a parallel region uses; at least 1
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

// Calls call(body, part) for each part in [0, parts), on this thread and on the pool's.
void run_parts(int parts, void (*call)(void* body, int part), void* body);

}  // namespace internal

// Runs body(part) once for each part in [0, parts), on up to `parts` threads. A region inside a
// region, or beside one of another thread, runs its parts one after the other.
template <class Body>
void parallel_region(int parts, Body&& body) {
  if (parts <= 1) {
    body(0);
    return;
  }
  internal::FirstException failure;
  auto guarded = [&](int part) { failure.run([&] { body(part); }); };
  internal::run_parts(
      parts,
      [](void* function, int part) { (*static_cast<decltype(guarded)*>(function))(part); },
      &guarded);
  failure.rethrow();
}

// Runs body(begin, end) over a static partition of [0, count); parts are multiples of `grain`.
template <class Body>
void parallel_for(int64_t count, int64_t grain, Body&& body) {
  const int64_t units = (count + grain - 1) / grain;
  const int64_t parts = units < num_threads() ? units : num_threads();
  if (parts <= 1) {
    if (count > 0) {
      body(int64_t{0}, count);
    }
    return;
  }
  parallel_region(static_cast<int>(parts), [&](int part) {
    const int64_t begin = units * part / parts * grain;
    const int64_t end = units * (part + 1) / parts * grain;
    body(begin, end < count ? end : count);
  });
}

// Runs body(item) once for each item in [0, count), handed out `grain` at a time: for items of
// unequal cost whose results do not depend on who computes them.
template <class Body>
void parallel_items(int64_t count, int64_t grain, Body&& body) {
  std::atomic<int64_t> next = 0;
  const int64_t units = (count + grain - 1) / grain;
  const int64_t parts = units < num_threads() ? units : num_threads();
  parallel_region(static_cast<int>(parts), [&](int) {
    for (int64_t first = next.fetch_add(grain); first < count; first = next.fetch_add(grain)) {
      for (int64_t item = first; item < first + grain && item < count; ++item) {
        body(item);
      }
    }
  });
}

}  // namespace adze::core
