#pragma once
// Typed access to an object of JSON that came from a stranger. Null counts as missing, as in the
// files of transformers.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::model {

// The JSON of a configuration file of up to 16 MiB. Throws core::Error: no such file, no JSON.
nlohmann::json read_config(const std::filesystem::path& path);

class ConfigFields {
 public:
  // object must outlive this; `file` and `within` ("rope_scaling.") stand in errors. Throws
  // core::Error where it is no object.
  ConfigFields(const nlohmann::json& object, std::string_view file, std::string within = "");

  // nullopt: missing. Another type: core::Error.
  std::optional<int64_t> integer(const char* key) const;
  std::optional<double> number(const char* key) const;
  std::optional<bool> boolean(const char* key) const;
  std::optional<std::string> text(const char* key) const;
  std::optional<std::vector<double>> numbers(const char* key) const;
  std::optional<std::vector<int64_t>> integers(const char* key) const;
  std::optional<std::vector<std::string>> texts(const char* key) const;
  std::optional<ConfigFields> object(const char* key) const;

  int64_t required_integer(const char* key) const;
  bool has(const char* key) const { return find(key) != nullptr; }
  bool is_text(const char* key) const;
  bool absent(const char* key) const { return !object_->contains(key); }  // not even null
  [[noreturn]] void fail(const char* key, std::string_view expected) const;

 private:
  const nlohmann::json* find(const char* key) const;

  const nlohmann::json* object_;
  std::string file_;
  std::string within_;
};

}  // namespace adze::model
