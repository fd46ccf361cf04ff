#pragma once
// The fields of a JSON object from a stranger. Each is taken once, checked; whatever nobody took is
// refused by name, so that nothing of a request is dropped in silence. null means absent.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "serve/api_error.h"
#include "serve/request_json.h"

namespace adze::serve {

class RequestFields {
 public:
  // place: "" for the request itself, else such as "messages[2]". Throws ApiError: not an object.
  explicit RequestFields(const Json& object, std::string place = "");
  RequestFields(Json&&, std::string place = "") = delete;  // it is kept
  RequestFields(const Json* object, std::string place);    // null: an error like any other

  // All throw ApiError naming field, value and legal range.
  const Json* any(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t least, int64_t most);
  std::optional<double> number(std::string_view name, double least, double most);
  std::optional<std::string> text(std::string_view name);
  std::string choice(std::string_view name,
                     const std::vector<std::string>& legal,
                     std::string_view otherwise);
  void refuse(std::string_view name, std::string_view why);  // if it is there

  void finish();  // throws ApiError for a field that nobody took

  std::string path(std::string_view name) const;

 private:
  ApiError unexpected(std::string_view name, std::string_view legal, const Json& value) const;

  const Json& object_;
  std::string place_;
  std::set<std::string, std::less<>> known_;
};

}  // namespace adze::serve
