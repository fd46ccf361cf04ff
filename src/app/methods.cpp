#include "app/methods.h"

#include "data/batch_source.h"
#include "kv/cache_registry.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"
#include "methods/decoquant/decoquant.h"
#include "methods/fadam/fadam.h"
#include "methods/pyramid_infer/pyramid_infer.h"
#include "methods/sirllm/sirllm.h"
#include "train/optimizer.h"

namespace adze::app {

void register_methods() {
  kv::store_entries().push_back(methods::decoquant::store_entry());
  kv::policy_entries().push_back(methods::pyramid_infer::policy_entry());
  kv::policy_entries().push_back(methods::sirllm::policy_entry());
  data::batch_source_entries().push_back(methods::dataset_decomposition::batch_source_entry());
  train::optimizer_entries().push_back(methods::fadam::optimizer_entry());
}

}  // namespace adze::app
