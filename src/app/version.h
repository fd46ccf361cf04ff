#pragma once
#include <string>

namespace adze::app {

std::string version_text();  // "adze 0.1.0 (AVX3, 2 threads)"

}  // namespace adze::app
