#pragma once
// The methods that the cache knows by name: `deco` among the stores, `pyramid` and `sirllm` among
// the policies.

namespace adze::methods {

// Before anything is looked up in the registry; a second call changes nothing. Not for concurrent
// use.
void register_cache_methods();

}  // namespace adze::methods
