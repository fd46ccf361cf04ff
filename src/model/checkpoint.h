#pragma once
// A model as it lies on disk, the same for a GGUF file and a Hugging Face folder: what it is, and
// its tensors under GGUF's names. Nothing is copied or computed yet.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/model_spec.h"
#include "text/tokenizer.h"

namespace adze::model {

struct Checkpoint {
  std::filesystem::path path;
  ModelSpec spec;
  std::vector<formats::StoredTensor> tensors;  // as expected_tensors(spec), then a pooler
  std::vector<std::string> ignored;            // tensors that a text model does not use
  std::optional<std::string> chat_template;    // set: stands for the one in the files

  // Conventions of the format that the tensors came from (model/architectures.h).
  bool alternating_rotary_rows = false;
  bool norms_lack_one = false;

  // One of the two, which owns the tensors' bytes.
  std::shared_ptr<const formats::GgufFile> gguf;
  std::shared_ptr<const formats::SafetensorsFolder> safetensors;

  const formats::StoredTensor& tensor(std::string_view name) const;  // one that is expected
  const formats::StoredTensor* find_tensor(std::string_view name) const;
};

// A GGUF file, or a folder with config.json and safetensors. Throws core::Error that names file,
// field, value and legal range: a missing or surplus tensor, a shape that does not fit the spec.
Checkpoint open_checkpoint(const std::filesystem::path& path);

// The text side of the same file or folder.
text::TokenizerSpec read_tokenizer(const std::filesystem::path& path);
std::optional<std::string> read_chat_template(const std::filesystem::path& path);
text::TokenizerSpec read_tokenizer(const Checkpoint& checkpoint);
std::optional<std::string> read_chat_template(const Checkpoint& checkpoint);

}  // namespace adze::model
