#include "methods/cache_methods.h"

#include <utility>

#include "kv/cache_registry.h"
#include "methods/decoquant/decoquant.h"
#include "methods/pyramid_infer/pyramid_infer.h"
#include "methods/sirllm/sirllm.h"

namespace adze::methods {

void register_cache_methods() {
  static bool done = false;
  if (std::exchange(done, true)) {
    return;
  }
  kv::store_entries().push_back(decoquant::store_entry());
  kv::policy_entries().push_back(pyramid_infer::policy_entry());
  kv::policy_entries().push_back(sirllm::policy_entry());
}

}  // namespace adze::methods
