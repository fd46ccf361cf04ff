#pragma once
// The methods that training knows by name: `dataset-decomposition` among the batch sources, `fadam` among
// the optimisers.

namespace adze::methods {

// Before anything is looked up; a second call changes nothing. Not for concurrent use.
void register_training_methods();

}  // namespace adze::methods
