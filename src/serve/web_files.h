#pragma once
// The page that the server shows at "/": files of web/ and the two libraries it uses, compiled in
// (cmake/web.cmake).

#include <string_view>

namespace adze::serve {

struct WebFile {
  std::string_view path;  // as requested: "/", "/web/style.css", "/web/vendor/marked.js"
  std::string_view content_type;
  std::string_view body;
  std::string_view etag;  // of the content, with its quotes
};

// Null where there is no such file. `path` is without a query.
const WebFile* find_web_file(std::string_view path);

}  // namespace adze::serve
