#pragma once
// Options live in the header of the thing they configure. One `fields` visitor feeds flags, help,
// JSON and records:
//
//   struct SamplingOptions {
//     double temperature = 1.0;
//     void validate() const;   // throws InvalidOption: field, value, legal range
//     template <class Self, class Visit>
//     static constexpr void fields(Self& self, Visit&& visit) {
//       visit("temperature", self.temperature, "softmax temperature; 0 takes the likeliest token");
//     }
//   };
//
// A member that is itself an options struct is visited as visit("", self.sampling, "") and its
// fields are listed in line.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::core {

using OptionValue = std::variant<bool*,
                                 int64_t*,
                                 uint64_t*,
                                 double*,
                                 std::string*,
                                 std::optional<int64_t>*,
                                 std::optional<double>*,
                                 std::optional<std::string>*,
                                 std::vector<std::string>*,
                                 std::vector<int64_t>*,
                                 std::vector<double>*>;

struct Option {
  std::string name;  // full words, dashes: "max-tokens"
  OptionValue value;
  std::string help;  // units and meaning; the default is printed by the command line
};

// [options] appended field by field, nested structs in line.
template <class Options>
void append_options(Options& options, std::vector<Option>& list) {
  Options::fields(options, [&list](std::string_view name, auto& member, std::string_view help) {
    using Member = std::remove_reference_t<decltype(member)>;
    if constexpr (requires { Member::fields(member, [](auto&&...) {}); }) {
      append_options(member, list);
    } else {
      list.push_back({std::string(name), OptionValue(&member), std::string(help)});
    }
  });
}

template <class Options>
std::vector<Option> list_options(Options& options) {
  std::vector<Option> list;
  append_options(options, list);
  return list;
}

nlohmann::json options_to_json(const std::vector<Option>& options);
// Throws InvalidOption for an unknown key (with the nearest name) or a value of a wrong type.
void options_from_json(const std::vector<Option>& options, const nlohmann::json& values);

// Sets the option from words of a command line: exactly one, or any number for a list.
// Throws InvalidOption: a word of a wrong type, a number that does not fit.
void assign_text(const Option& option, const std::vector<std::string>& words);

// The candidate with the smallest edit distance, or "" where none is close.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

// Number of members of an aggregate, found at compile time by trying ever longer braced lists. A
// test compares it with the visited fields, so that a forgotten member cannot slip through.
namespace internal {
struct AnyMember {
  size_t index;
  template <class T>
  operator T() const;  // NOLINT(google-explicit-constructor): never called, only deduced
};
template <class Aggregate, size_t... index>
constexpr bool initialisable(std::index_sequence<index...>) {
  return requires {
    Aggregate{AnyMember{index}...};
  };
}
template <class Aggregate, size_t count = 0>
constexpr size_t count_members() {
  if constexpr (!initialisable<Aggregate>(std::make_index_sequence<count + 1>{})) {
    return count;
  } else {
    return count_members<Aggregate, count + 1>();
  }
}
}  // namespace internal
template <class Aggregate>
constexpr size_t field_count() {
  return internal::count_members<Aggregate>();
}

// Fields that the visitor of this struct itself names; a nested struct counts as one.
template <class Options>
size_t visited_field_count() {
  Options options{};
  size_t count = 0;
  Options::fields(options, [&count](auto&&...) { ++count; });
  return count;
}

}  // namespace adze::core
