#include "core/parallel.h"

#include <string>

#include "core/error.h"

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

}  // namespace

int num_threads() { return thread_count(); }

void set_num_threads(int count) {
  if (count < 1 || count > 1024) {
    throw InvalidOption("threads", std::to_string(count), "1 to 1024");
  }
  thread_count() = count;
}

}  // namespace adze::core
