#include "serve/web_files.h"

#include "serve/web_files_table.h"

namespace adze::serve {

const WebFile* find_web_file(std::string_view path) {
  for (const WebFile& file : web_files()) {
    if (file.path == path) {
      return &file;
    }
  }
  return nullptr;
}

}  // namespace adze::serve
