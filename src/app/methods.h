#pragma once
// The methods that the cache knows by name.

namespace adze::app {

void register_cache_methods();  // once, before anything is looked up

}  // namespace adze::app
