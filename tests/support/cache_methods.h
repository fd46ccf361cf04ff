#pragma once
// Makes the methods' stores and policies known by name, as the program does.

#include "kv/cache_registry.h"
#include "methods/decoquant/decoquant.h"
#include "methods/pyramid_infer/pyramid_infer.h"
#include "methods/sirllm/sirllm.h"

namespace adze::methods {

inline void register_cache_methods() {
  static const bool done = [] {
    kv::store_entries().push_back(decoquant::store_entry());
    kv::policy_entries().push_back(pyramid_infer::policy_entry());
    kv::policy_entries().push_back(sirllm::policy_entry());
    return true;
  }();
  (void)done;
}

}  // namespace adze::methods
