#include "app/methods.h"

#include "kv/cache_registry.h"
#include "methods/decoquant/decoquant.h"
#include "methods/pyramid_infer/pyramid_infer.h"
#include "methods/sirllm/sirllm.h"

namespace adze::app {

void register_cache_methods() {
  kv::store_entries().push_back(methods::decoquant::store_entry());
  kv::policy_entries().push_back(methods::pyramid_infer::policy_entry());
  kv::policy_entries().push_back(methods::sirllm::policy_entry());
}

}  // namespace adze::app
