// ModelStore::pull: catalogue, paths, names of models that are here.

#include <algorithm>

#include <unistd.h>

#include "core/error.h"
#include "core/options.h"
#include "data/model_store.h"
#include "data/model_store_manifest.h"
#include "formats/gguf.h"
#include "formats/quote_untrusted.h"
#include "formats/sha256.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

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

// A hard link survives when the file is moved or deleted; across file systems only a symbolic
// link is possible.
void link_file(const fs::path& file, const fs::path& link) {
  fs::create_directories(link.parent_path());
  fs::remove(link);  // what an interruption left
  std::error_code failure;
  fs::create_hard_link(fs::canonical(file), link, failure);
  if (failure) {
    fs::create_symlink(fs::canonical(file), link);
  }
}

// The files at the top and one level below, where a Hugging Face folder has its own.
std::vector<HubFile> folder_listing(const fs::path& folder) {
  std::vector<HubFile> files;
  const auto add = [&](const fs::directory_entry& item, const std::string& prefix) {
    const std::string path = prefix + item.path().filename().string();
    if (item.is_regular_file() && is_hub_path(path)) {
      files.push_back({.path = path,
                       .bytes = static_cast<int64_t>(item.file_size()),
                       .sha256 = "",
                       .git_blob = ""});
    }
  };
  for (const auto& item : fs::directory_iterator(folder)) {
    add(item, "");
    if (item.is_directory()) {
      std::error_code unreadable;
      for (const auto& below : fs::directory_iterator(item.path(), unreadable)) {
        add(below, item.path().filename().string() + "/");
      }
    }
  }
  return files;
}

std::vector<HubFile> chosen_from_folder(const fs::path& folder) {
  const std::vector<HubFile> files = folder_listing(folder);
  if (!fs::exists(folder / "config.json") && has_gguf(files)) {
    throw core::error("pull",
                      "{} has GGUF files and no config.json; pull one of the files by its path",
                      folder.string());
  }
  return choose_folder(folder.string(), files);
}

std::string folder_name(const fs::path& folder) {
  return fs::canonical(folder).filename().string();  // of "." and "a/b/" too
}

}  // namespace

StoredModel ModelStore::pull(const PullRequest& request) const {
  const std::string& argument = request.argument;
  if (!request.name.empty() && !is_model_name(request.name)) {
    throw core::InvalidOption(
        "name", request.name, "letters, digits, '.', '_' and '-', not beginning with '.' or '-'");
  }
  try {
    const CatalogueEntry* entry = find_entry(argument);
    if (entry != nullptr && request.name.empty()) {
      return pull_entry(*entry, request);
    }
    std::error_code failure;
    if (fs::exists(argument, failure)) {
      return add_path(argument, request.name);
    }
    const auto name = parse_hub_name(argument);
    // "models/a.gguf" is meant as a path: what is missing here is not looked for elsewhere.
    if (name && !name->repository.ends_with(".gguf")) {
      return pull_from_hub(*name, request);
    }
  } catch (const fs::filesystem_error& failure) {
    throw core::error("pull", "{}", failure.what());
  }
  if (const auto model = find(argument)) {
    verify(*model);
    return *model;
  }
  std::vector<std::string> names;
  std::transform(catalogue_.begin(),
                 catalogue_.end(),
                 std::back_inserter(names),
                 [](const CatalogueEntry& entry) { return entry.name; });
  const std::string nearest = core::nearest_name(argument, names);
  throw core::error("pull",
                    "expected a known model ({}), OWNER/NAME[@REVISION][:FILE] on a hub, a GGUF "
                    "file or a Hugging Face folder, got {}{}",
                    fmt::join(names, ", "),
                    formats::quote_untrusted(argument),
                    nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
}

StoredModel ModelStore::pull_entry(const CatalogueEntry& entry, const PullRequest& request) const {
  const fs::path folder = root_ / entry.name;
  StoredModel model = entry_model(entry);
  const auto is_whole = [](const StoredModel& candidate) {
    return size_problem(candidate).empty() &&
           std::all_of(candidate.files.begin(), candidate.files.end(), [&](const auto& file) {
             return formats::sha256_file(candidate.file_path(file)) == file.sha256;
           });
  };
  if (is_whole(model)) {
    const auto known = find(entry.name);
    if (!known || !known->problem.empty() || known->files != model.files ||
        !fs::exists(folder / kManifest)) {
      write_manifest(folder, model);
    }
    return model;
  }
  request.notice(fmt::format(
      "fetching {}: {} from {}", entry.name, megabytes_text(entry.bytes()), entry.source()));
  // Beside the target, so that the rename stays within one file system.
  const TemporaryFolder temporary(root_ / fmt::format(".{}-{}", entry.name, ::getpid()));
  fetch_(entry, temporary.path());
  StoredModel fetched = model;
  fetched.path = model.is_folder ? temporary.path() : temporary.path() / model.files[0].path;
  verify(fetched);
  fs::create_directories(folder);
  for (const StoredFile& file : model.files) {
    fs::create_directories((folder / file.path).parent_path());
    fs::rename(temporary.path() / file.path, folder / file.path);
  }
  write_manifest(folder, model);
  return model;
}

std::optional<StoredModel> ModelStore::check_name(const std::string& name,
                                                  const std::string& source) const {
  if (!is_model_name(name)) {
    throw core::error(
        "pull", "no name can be made from {}; give --name", formats::quote_untrusted(source));
  }
  if (find_entry(name) != nullptr) {
    throw core::error("pull", "{} is the name of a model that adze fetches; give --name", name);
  }
  auto known = find(name);
  if (known && known->source != source) {
    throw core::error("pull",
                      "{} is the name of another model ({}); adze remove it, or give --name",
                      name,
                      known->source.empty() ? known->problem : known->source);
  }
  return known;
}

StoredModel ModelStore::add_path(const fs::path& path, std::string name) const {
  StoredModel model;
  model.is_folder = fs::is_directory(path);
  std::vector<HubFile> files;
  if (model.is_folder) {
    files = chosen_from_folder(path);
  } else {
    const formats::GgufFile readable(path);  // throws for anything else
    files.push_back({.path = "",
                     .bytes = static_cast<int64_t>(fs::file_size(path)),
                     .sha256 = "",
                     .git_blob = ""});
  }
  model.name = !name.empty()     ? std::move(name)
               : model.is_folder ? model_name_from(folder_name(path))
                                 : model_name_from(path.stem().string());
  model.source = fs::canonical(path).string();
  const auto known = check_name(model.name, model.source);
  for (const HubFile& file : files) {
    const fs::path original = file.path.empty() ? path : path / file.path;
    model.files.push_back({.path = model.is_folder ? file.path : model.name + ".gguf",
                           .bytes = file.bytes,
                           .sha256 = formats::sha256_file(original)});
    model.bytes += file.bytes;
  }
  const fs::path folder = root_ / model.name;
  model.path = model.is_folder ? folder : folder / model.files[0].path;
  if (known && known->problem.empty() && known->files == model.files) {
    return *known;
  }
  if (known) {
    remove_files(*known);  // the file or folder of that path is another one now
  }
  for (size_t i = 0; i < files.size(); ++i) {
    link_file(model.is_folder ? path / files[i].path : path, folder / model.files[i].path);
  }
  write_manifest(folder, model);
  return model;
}

}  // namespace adze::data
