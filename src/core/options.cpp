#include "core/options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "core/check.h"
#include "core/error.h"

namespace adze::core {
namespace {

template <class T>
nlohmann::json value_to_json(const T& value) {
  return value;
}
template <class T>
nlohmann::json value_to_json(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

template <class T>
std::string_view json_type_name() {
  if constexpr (std::is_same_v<T, bool>) {
    return "true or false";
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return "an integer, at least 0";
  } else if constexpr (std::is_integral_v<T>) {
    return "an integer";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "a number";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "a string";
  } else {
    return "a list";
  }
}

template <class T>
bool has_type(const nlohmann::json& value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value.is_boolean();
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return value.is_number_unsigned();
  } else if constexpr (std::is_integral_v<T>) {
    // The JSON reader keeps what only fits an unsigned number as one.
    return value.is_number_integer() &&
           (!value.is_number_unsigned() ||
            value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max()));
  } else if constexpr (std::is_floating_point_v<T>) {
    return value.is_number();
  } else if constexpr (std::is_same_v<T, std::string>) {
    return value.is_string();
  } else {
    using Element = typename T::value_type;
    return value.is_array() && std::all_of(value.begin(), value.end(), has_type<Element>);
  }
}

template <class T>
void value_from_json(const std::string& name, T& member, const nlohmann::json& value) {
  if (!has_type<T>(value)) {
    throw InvalidOption(name, value.dump(), json_type_name<T>());
  }
  member = value.get<T>();
}
template <class T>
void value_from_json(const std::string& name,
                     std::optional<T>& member,
                     const nlohmann::json& value) {
  if (value.is_null()) {
    member.reset();
    return;
  }
  value_from_json(name, member.emplace(), value);
}

template <class T>
void value_from_text(const std::string& name, T& member, const std::string& word) {
  if constexpr (std::is_same_v<T, std::string>) {
    member = word;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (word != "true" && word != "false") {
      throw InvalidOption(name, word, json_type_name<T>());
    }
    member = word == "true";
  } else {
    const char* end = word.data() + word.size();
    const auto [stop, code] = std::from_chars(word.data(), end, member);
    if (code == std::errc::result_out_of_range) {
      throw InvalidOption(name, word, fmt::format("{} of 64 bits", json_type_name<T>()));
    }
    if (code != std::errc() || stop != end) {
      throw InvalidOption(name, word, json_type_name<T>());
    }
  }
}

template <class T>
void words_to_member(const std::string& name, T& member, const std::vector<std::string>& words) {
  check(words.size() == 1, "words ", words.size());
  value_from_text(name, member, words[0]);
}
template <class T>
void words_to_member(const std::string& name,
                     std::optional<T>& member,
                     const std::vector<std::string>& words) {
  words_to_member(name, member.emplace(), words);
}
template <class T>
void words_to_member(const std::string& name,
                     std::vector<T>& member,
                     const std::vector<std::string>& words) {
  member.assign(words.size(), T{});
  for (size_t i = 0; i < words.size(); ++i) {
    value_from_text(name, member[i], words[i]);
  }
}

size_t edit_distance(std::string_view left, std::string_view right) {
  std::vector<size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < left.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < right.size(); ++j) {
      const size_t substituted = diagonal + (left[i] == right[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

nlohmann::json options_to_json(const std::vector<Option>& options) {
  auto result = nlohmann::json::object();
  for (const Option& option : options) {
    result[option.name] =
        std::visit([](const auto* member) { return value_to_json(*member); }, option.value);
  }
  return result;
}

void options_from_json(const std::vector<Option>& options, const nlohmann::json& values) {
  if (!values.is_object()) {
    throw InvalidOption("config", values.dump().substr(0, 60), "a JSON object");
  }
  for (const auto& [name, value] : values.items()) {
    const auto option = std::find_if(
        options.begin(), options.end(), [&](const Option& known) { return known.name == name; });
    if (option == options.end()) {
      std::vector<std::string> names;
      for (const Option& known : options) {
        names.push_back(known.name);
      }
      const std::string nearest = nearest_name(name, names);
      throw UsageError(
          nearest.empty()
              ? fmt::format("[config] unknown key {}", name)
              : fmt::format("[config] unknown key {}; did you mean {}?", name, nearest));
    }
    std::visit([&](auto* member) { value_from_json(name, *member, value); }, option->value);
  }
}

void assign_text(const Option& option, const std::vector<std::string>& words) {
  std::visit([&](auto* member) { words_to_member(option.name, *member, words); }, option.value);
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  if (name.empty()) {
    return best;  // everything begins with it
  }
  size_t best_distance = std::max<size_t>(2, name.size() / 2) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = candidate.starts_with(name) ? 1 : edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace adze::core
