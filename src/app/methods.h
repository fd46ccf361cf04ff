#pragma once
// The methods that the cache and training know by name.

namespace adze::app {

void register_methods();  // once, before anything is looked up

}  // namespace adze::app
