#include "tensor/threads.h"

#include <ATen/Parallel.h>

#include "core/parallel.h"
#include "core/thread_pool.h"

namespace adze::tensor {
namespace {

// A part to a thread; inside another region all parts run on this one. NOTE: compiled with
// -fopenmp, and no exception leaves a part (core::parallel_region catches them).
void run_parts(int parts, void (*call)(void* body, int part), void* body) {
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int part = 0; part < parts; ++part) {
    call(body, part);
  }
}

}  // namespace

void use_libtorch_threads() {
  at::set_num_threads(core::num_threads());
  core::replace_pool(run_parts);
}

}  // namespace adze::tensor
