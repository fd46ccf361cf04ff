#pragma once
// What cmake/embed_web_files.py writes.

#include <span>

#include "serve/web_files.h"

namespace adze::serve {

std::span<const WebFile> web_files();

}  // namespace adze::serve
