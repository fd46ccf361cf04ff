#include "methods/training_methods.h"

#include <utility>

#include "data/batch_source.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"
#include "methods/fadam/fadam.h"
#include "train/optimizer.h"

namespace adze::methods {

void register_training_methods() {
  static bool done = false;
  if (std::exchange(done, true)) {
    return;
  }
  data::batch_source_entries().push_back(dataset_decomposition::batch_source_entry());
  train::optimizer_entries().push_back(fadam::optimizer_entry());
}

}  // namespace adze::methods
