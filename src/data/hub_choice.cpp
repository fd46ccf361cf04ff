#include "data/hub_choice.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/options.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

// More are listed by number only: a message is one line.
constexpr size_t kMaxListed = 40;

// NAME.ENDING of these is what torch.save, Keras and others write: data and code in one.
constexpr std::array<std::string_view, 10> kPickles = {
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".onnx", ".joblib"};

constexpr std::array<std::string_view, 13> kFolderFiles = {"config.json",
                                                           "generation_config.json",
                                                           "tokenizer.json",
                                                           "tokenizer_config.json",
                                                           "tokenizer.model",
                                                           "special_tokens_map.json",
                                                           "chat_template.jinja",
                                                           "vocab.txt",
                                                           "merges.txt",
                                                           "modules.json",
                                                           "sentence_bert_config.json",
                                                           "1_Pooling/config.json",
                                                           "model.safetensors.index.json"};

bool is_alphanumeric(char character) {
  return (character >= 'a' && character <= 'z') || (character >= '0' && character <= '9');
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& character : lower) {
    if (character >= 'A' && character <= 'Z') {
      character = static_cast<char>(character - 'A' + 'a');
    }
  }
  return lower;
}

std::string file_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

bool is_gguf(const HubFile& file) {
  return lower_case(file.path).ends_with(".gguf");
}

// NAME-00001-of-00003.gguf
bool is_split(const HubFile& file) {
  constexpr std::string_view kForm = "-ddddd-of-ddddd.gguf";
  const std::string name = lower_case(file_name(file.path));
  if (name.size() < kForm.size()) {
    return false;
  }
  const std::string_view ending = std::string_view(name).substr(name.size() - kForm.size());
  for (size_t i = 0; i < kForm.size(); ++i) {
    const bool digit = ending[i] >= '0' && ending[i] <= '9';
    if (kForm[i] == 'd' && i < 15 ? !digit : ending[i] != kForm[i]) {
      return false;
    }
  }
  return true;
}

// "Q4_K" is in "a-Q4_K.gguf", but neither in "a-Q4_K_M.gguf" nor in "a-IQ4_K.gguf".
bool has_type(const HubFile& file, const std::string& type) {
  const std::string name = lower_case(file_name(file.path));
  for (size_t at = name.find(type); at != std::string::npos; at = name.find(type, at + 1)) {
    const size_t end = at + type.size();
    if ((at == 0 || !is_alphanumeric(name[at - 1])) &&
        (end == name.size() || (!is_alphanumeric(name[end]) && name[end] != '_'))) {
      return true;
    }
  }
  return false;
}

std::string listed(const std::vector<HubFile>& files) {
  std::vector<std::string> parts;
  for (const HubFile& file : files) {
    if (parts.size() == kMaxListed) {
      parts.push_back(fmt::format("and {} more", files.size() - kMaxListed));
      break;
    }
    parts.push_back(
        fmt::format("{} ({})", formats::quote_untrusted(file.path), megabytes_text(file.bytes)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<HubFile> matching(const std::vector<HubFile>& files, const std::string& wanted) {
  const std::string lower = lower_case(wanted);
  const std::array<std::function<bool(const HubFile&)>, 3> rules = {
      [&](const HubFile& file) { return file.path == wanted; },
      [&](const HubFile& file) {
        const std::string name = lower_case(file_name(file.path));
        return name == lower || name == lower + ".gguf";
      },
      [&](const HubFile& file) { return has_type(file, lower); }};
  std::vector<HubFile> found;
  for (const auto& rule : rules) {
    std::copy_if(files.begin(), files.end(), std::back_inserter(found), rule);
    if (!found.empty()) {
      break;
    }
  }
  return found;
}

HubFile whole(const HubFile& file) {
  if (is_split(file)) {
    throw core::error("pull",
                      "{} is one part of a split GGUF file, which is not supported; take a file "
                      "in one part, or join the parts with llama.cpp's gguf-split --merge",
                      formats::quote_untrusted(file.path));
  }
  return file;
}

bool at_top(const HubFile& file) {
  return file.path.find('/') == std::string::npos;
}

// Some repositories hold the weights twice, model*.safetensors and in the form of another program
// (consolidated.safetensors); then the first is meant.
std::vector<HubFile> weight_files(const std::vector<HubFile>& files) {
  std::vector<HubFile> weights;
  std::copy_if(files.begin(), files.end(), std::back_inserter(weights), [](const HubFile& file) {
    return at_top(file) && file.path.ends_with(".safetensors");
  });
  const auto is_model = [](const HubFile& file) { return file.path.starts_with("model"); };
  if (std::any_of(weights.begin(), weights.end(), is_model)) {
    weights.erase(std::remove_if(weights.begin(), weights.end(), std::not_fn(is_model)),
                  weights.end());
  }
  return weights;
}

}  // namespace

std::string megabytes_text(int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

bool has_gguf(const std::vector<HubFile>& files) {
  return std::any_of(files.begin(), files.end(), is_gguf);
}

HubFile choose_gguf(const HubName& name,
                    const std::vector<HubFile>& files,
                    const ChooseFile& choose) {
  std::vector<HubFile> offered;
  std::copy_if(files.begin(), files.end(), std::back_inserter(offered), is_gguf);
  std::vector<HubFile> found = name.file.empty() ? offered : matching(offered, name.file);
  if (found.empty()) {
    std::vector<std::string> names;
    std::transform(
        offered.begin(), offered.end(), std::back_inserter(names), [](const HubFile& file) {
          return file.path;
        });
    const std::string nearest = core::nearest_name(name.file, names);
    throw core::error(
        "pull",
        "{} has no GGUF file {}{}; it has: {}",
        name.text(),
        formats::quote_untrusted(name.file),
        nearest.empty() ? "" : "; did you mean " + formats::quote_untrusted(nearest) + "?",
        listed(offered));
  }
  const HubFile first = found.front();
  found.erase(std::remove_if(found.begin(), found.end(), is_split), found.end());
  if (found.size() <= 1) {
    return whole(found.empty() ? first : found.front());
  }
  if (choose) {
    const auto chosen = choose(found);
    if (!chosen || *chosen >= found.size()) {
      throw core::error("pull", "{}: no file was chosen", name.text());
    }
    return found[*chosen];
  }
  throw core::error("pull",
                    "{} has {} GGUF files{}; name one as {}:FILE or by its type, as :Q4_K_M: {}",
                    name.text(),
                    found.size(),
                    name.file.empty() ? "" : " that match " + formats::quote_untrusted(name.file),
                    name.text(),
                    listed(found));
}

std::vector<HubFile> choose_folder(std::string_view name, const std::vector<HubFile>& files) {
  std::vector<HubFile> chosen;
  bool has_config = false;
  for (const HubFile& file : files) {
    if (std::find(kFolderFiles.begin(), kFolderFiles.end(), file.path) != kFolderFiles.end()) {
      chosen.push_back(file);
      has_config = has_config || file.path == "config.json";
    }
  }
  const std::vector<HubFile> weights = weight_files(files);
  if (weights.empty()) {
    const auto pickle = std::find_if(files.begin(), files.end(), [](const HubFile& file) {
      const std::string path = lower_case(file.path);
      return std::any_of(kPickles.begin(), kPickles.end(), [&](std::string_view ending) {
        return path.ends_with(ending);
      });
    });
    if (pickle != files.end()) {
      throw core::error("pull",
                        "{} has its weights only as {}, a format that adze does not read because "
                        "a pickle can run code; convert it to safetensors "
                        "(save_pretrained of transformers) and pull that folder",
                        name,
                        formats::quote_untrusted(pickle->path));
    }
    throw core::error("pull", "{} has neither a GGUF file nor *.safetensors at its top", name);
  }
  if (!has_config) {
    throw core::error("pull", "{} has safetensors but no config.json beside them", name);
  }
  chosen.insert(chosen.end(), weights.begin(), weights.end());
  return chosen;
}

}  // namespace adze::data
