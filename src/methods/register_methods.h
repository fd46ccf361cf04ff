#pragma once
// The methods that are chosen by name: `deco` among the cache's stores, `pyramid` and `sirllm`
// among its policies, `dataset-decomposition` among the batch sources, `fadam` among the
// optimisers.

namespace adze::methods {

// Before anything is looked up; a second call changes nothing. Not for concurrent use.
void register_methods();

}  // namespace adze::methods
