#pragma once
// safetensors: reader over mapped files, and writer. A model is one file, or a folder with
// model.safetensors, or a folder with model.safetensors.index.json and the shards that it names.
// Format: https://github.com/huggingface/safetensors#format
//
// Files are untrusted: nothing is used before it is checked, and nothing is allocated that the real
// size does not justify (4 x file + 64 MiB). Beyond the format's own rules (tensors cover the data
// in order, without holes) duplicate keys are refused, names have 1 to 512 bytes, shapes up to 8
// dimensions, a file up to 131,072 tensors and a model up to 4,096 shards.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/mapped_file.h"
#include "formats/stored_tensor.h"
#include "formats/tensor_output.h"

namespace adze::formats {

// An integer or bool tensor: a buffer such as position_ids, of no use as a weight.
struct SkippedTensor {
  std::string name;
  std::string dtype;  // as the file has it: "I64"
  std::vector<int64_t> shape;
};

class SafetensorsFolder {
 public:
  // Throws core::Error: file, field, range. A floating-point dtype other than F32, F16 and BF16 is
  // one of them.
  explicit SafetensorsFolder(const std::filesystem::path& file_or_folder);

  // In the order of the shards' names, then of the bytes. NOTE: data begins at any address; read it
  // with memcpy or copy it first. Shapes may be empty (a scalar) or have zeros (no data).
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* find_tensor(std::string_view name) const;
  const std::vector<SkippedTensor>& skipped() const { return skipped_; }
  // "__metadata__"; of several shards, the value of the first that has the key.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index);
  void sort_names();

  std::filesystem::path path_;
  std::vector<core::MappedFile> files_;
  std::map<std::string, std::string> metadata_;
  std::vector<StoredTensor> tensors_;
  std::vector<SkippedTensor> skipped_;
  std::vector<uint32_t> by_name_;  // indices into tensors_, sorted by name
};

// Writes FOLDER/model.safetensors, or shards model-00001-of-0000N.safetensors with an index where
// the data exceeds max_shard_bytes (a larger tensor gets a shard of its own), and removes what an
// earlier model under these names left over. All bytes are on disk before the first file gets its
// name. Tensors are F32, F16 or BF16; within a file wider types come first, then names in order, so
// that every tensor is aligned. Throws core::Error (full disk, a name that is not UTF-8, ...).
void write_safetensors(const std::filesystem::path& folder,
                       const std::vector<TensorOutput>& tensors,
                       int64_t max_shard_bytes = 5'000'000'000);

}  // namespace adze::formats
