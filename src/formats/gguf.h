#pragma once
// GGUF v2 and v3 (little endian): reader over a mapped file, and writer.
// The file is untrusted: every count, offset and size is checked against the bytes that are there
// before it is used, and nothing is allocated that the file's real size does not justify.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/mapped_file.h"
#include "formats/stored_tensor.h"
#include "formats/tensor_output.h"

namespace adze::formats {

struct GgufArray;
using GgufValue = std::variant<uint8_t,
                               int8_t,
                               uint16_t,
                               int16_t,
                               uint32_t,
                               int32_t,
                               float,
                               bool,
                               std::string,
                               uint64_t,
                               int64_t,
                               double,
                               GgufArray>;
struct GgufArray {  // of one type, not nested
  std::variant<std::vector<uint8_t>,
               std::vector<int8_t>,
               std::vector<uint16_t>,
               std::vector<int16_t>,
               std::vector<uint32_t>,
               std::vector<int32_t>,
               std::vector<float>,
               std::vector<bool>,
               std::vector<std::string>,
               std::vector<uint64_t>,
               std::vector<int64_t>,
               std::vector<double>>
      values;
};

class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);  // throws core::Error: file, field, range
  // The same over bytes that the caller keeps alive; `name` stands in errors.
  GgufFile(std::span<const std::byte> bytes, const std::filesystem::path& name);

  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* find_tensor(std::string_view name) const;
  const std::filesystem::path& path() const { return path_; }

  // Metadata with a type check; integers of any width convert if the value fits. A missing key is
  // nullopt or nullptr, a key of another type an Error.
  std::optional<int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string> find_string(std::string_view key) const;
  const std::vector<std::string>* find_strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> find_integers(std::string_view key) const;

 private:
  void read(std::span<const std::byte> bytes);
  const GgufValue* find(std::string_view key) const;
  [[noreturn]] void fail(std::string_view key,
                         std::string_view expected,
                         const GgufValue& value) const;

  std::filesystem::path path_;
  std::shared_ptr<core::MappedFile> file_;  // none when made from bytes
  std::map<std::string, GgufValue> metadata_;
  std::vector<StoredTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices into tensors_, sorted by name
};

// Writes v3, atomically, tensor data aligned to 32 bytes, or to general.alignment where the
// metadata has it. Tensors have 1 to 4 dimensions, none of them 0; they are filled in order, one at
// a time. Throws core::Error (full disk, ...).
void write_gguf(const std::filesystem::path& path,
                const std::vector<std::pair<std::string, GgufValue>>& metadata,
                const std::vector<TensorOutput>& tensors);

}  // namespace adze::formats
