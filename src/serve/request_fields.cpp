#include "serve/request_fields.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "core/options.h"

namespace adze::serve {
namespace {

constexpr size_t kLongestName = 64;  // to look for one like it takes time in proportion
const Json kNothing;

}  // namespace

RequestFields::RequestFields(const Json& object, std::string place)
    : object_(object), place_(std::move(place)) {
  if (!object.is_object()) {
    throw bad_request(place_,
                      fmt::format("[{}] expected a JSON object, got {}",
                                  place_.empty() ? "body" : place_,
                                  shown(object)));
  }
}

RequestFields::RequestFields(const Json* object, std::string place)
    : RequestFields(object == nullptr ? kNothing : *object, std::move(place)) {}

std::string RequestFields::path(std::string_view name) const {
  return place_.empty() ? std::string(name) : fmt::format("{}.{}", place_, name);
}

ApiError RequestFields::unexpected(std::string_view name,
                                   std::string_view legal,
                                   const Json& value) const {
  return bad_request(path(name),
                     fmt::format("[{}] expected {}, got {}", path(name), legal, shown(value)));
}

const Json* RequestFields::any(std::string_view name) {
  known_.emplace(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> RequestFields::boolean(std::string_view name) {
  const Json* value = any(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_boolean()) {
    throw unexpected(name, "true or false", *value);
  }
  return value->get<bool>();
}

std::optional<int64_t> RequestFields::integer(std::string_view name, int64_t least, int64_t most) {
  const Json* value = any(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  const std::string legal = fmt::format("an integer from {} to {}", least, most);
  if (!value->is_number_integer() ||
      (value->is_number_unsigned() &&
       value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))) {
    throw unexpected(name, legal, *value);
  }
  const auto number = value->get<int64_t>();
  if (number < least || number > most) {
    throw unexpected(name, legal, *value);
  }
  return number;
}

std::optional<double> RequestFields::number(std::string_view name, double least, double most) {
  const Json* value = any(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  const double number = value->is_number() ? value->get<double>() : NAN;
  if (!(number >= least && number <= most)) {
    throw unexpected(name, fmt::format("a number from {} to {}", least, most), *value);
  }
  return number;
}

std::optional<std::string> RequestFields::text(std::string_view name) {
  const Json* value = any(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    throw unexpected(name, "a string", *value);
  }
  return value->get<std::string>();
}

std::string RequestFields::choice(std::string_view name,
                                  const std::vector<std::string>& legal,
                                  std::string_view otherwise) {
  const Json* value = any(name);
  if (value == nullptr) {
    return std::string(otherwise);
  }
  for (const std::string& text : legal) {
    if (value->is_string() && value->get_ref<const std::string&>() == text) {
      return text;
    }
  }
  throw unexpected(name, fmt::format("one of {}", fmt::join(legal, ", ")), *value);
}

void RequestFields::refuse(std::string_view name, std::string_view why) {
  if (const Json* value = any(name)) {
    throw bad_request(path(name),
                      fmt::format("[{}] expected none, got {}: {}", path(name), shown(*value), why),
                      "unsupported");
  }
}

void RequestFields::finish() {
  for (const auto& [name, value] : object_.items()) {
    if (known_.contains(name)) {
      continue;
    }
    const std::string nearest =
        name.size() > kLongestName
            ? ""
            : core::nearest_name(name, std::vector<std::string>(known_.begin(), known_.end()));
    const std::string shown_name = name.substr(0, 80);
    throw bad_request(
        path(shown_name),
        fmt::format("[{}] expected a known field, got this one{}",
                    path(shown_name),
                    nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest)),
        "unknown_field");
  }
}

}  // namespace adze::serve
