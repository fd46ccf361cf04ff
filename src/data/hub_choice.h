#pragma once
// Which files of a repository, or of a folder in its form, make a model.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/hub_name.h"

namespace adze::data {

struct HubFile {
  std::string path;  // is_hub_path
  int64_t bytes = 0;
  std::string sha256;    // 64 hexadecimal digits; empty: not known
  std::string git_blob;  // object name in git, 40 hexadecimal digits; empty: not known
};

// Asks a person for one of several; nullopt: none was chosen. Empty where nobody can be asked.
using ChooseFile = std::function<std::optional<size_t>(const std::vector<HubFile>& files)>;

bool has_gguf(const std::vector<HubFile>& files);

// The GGUF file that `name` names by path, by file name or by quantisation type in any case, the
// only one where it names none, or the one that `choose` gives. Throws core::Error: no such file,
// several and nobody to ask (lists them with sizes), split over several files.
HubFile choose_gguf(const HubName& name,
                    const std::vector<HubFile>& files,
                    const ChooseFile& choose);

// Weights as safetensors, configuration and tokenizer of a Hugging Face folder; never a pickle,
// which is a program that loading would run. Throws core::Error: no config.json, no safetensors.
// `name` is for messages.
std::vector<HubFile> choose_folder(std::string_view name, const std::vector<HubFile>& files);

std::string megabytes_text(int64_t bytes);  // "98.4 MB", 1e6 bytes each

}  // namespace adze::data
