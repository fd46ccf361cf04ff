#include "methods/register_methods.h"

#include <utility>

#include "data/batch_source.h"
#include "kv/cache_registry.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"
#include "methods/decoquant/decoquant.h"
#include "methods/fadam/fadam.h"
#include "methods/pyramid_infer/pyramid_infer.h"
#include "methods/sirllm/sirllm.h"
#include "train/optimizer.h"

namespace adze::methods {

void register_methods() {
  static bool done = false;
  if (std::exchange(done, true)) {
    return;
  }
  kv::store_entries().push_back(decoquant::store_entry());
  kv::policy_entries().push_back(pyramid_infer::policy_entry());
  kv::policy_entries().push_back(sirllm::policy_entry());
  data::batch_source_entries().push_back(dataset_decomposition::batch_source_entry());
  train::optimizer_entries().push_back(fadam::optimizer_entry());
}

}  // namespace adze::methods
