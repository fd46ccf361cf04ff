#pragma once
// Models by name, one folder each: ROOT/NAME/{files, model.json}. A model is one GGUF file, or a
// folder in Hugging Face's form. model.json (model_store_manifest.h) is written last, so that a
// folder with it is complete. Names come from strangers and never leave ROOT.
// ROOT/.NAME.part holds what an interrupted pull from a hub has fetched.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/hub.h"
#include "data/model_catalogue.h"

namespace adze::data {

struct StoredFile {
  std::string path;  // below the model's folder, is_hub_path
  int64_t bytes = 0;
  std::string sha256;  // as it should be

  bool operator==(const StoredFile&) const = default;
};

struct StoredModel {
  std::string name;
  std::filesystem::path path;  // of the GGUF file, or of the folder
  bool is_folder = false;
  int64_t bytes = 0;              // of all files
  std::vector<StoredFile> files;  // one unless it is a folder
  std::string source;             // where it came from
  std::string problem;            // empty: usable; else what is wrong with it, for a person

  std::filesystem::path file_path(const StoredFile& file) const;
};

// What an interrupted pull from a hub has left; remove() drops it, pull() goes on.
struct UnfinishedPull {
  std::string name;
  int64_t bytes = 0;  // on this machine
};

struct PullRequest {
  // A catalogue name, the path of a GGUF file or of a Hugging Face folder, OWNER/NAME on a hub
  // (hub_name.h), or the name of a model that is here.
  std::string argument;
  std::string name;  // under which it is stored; empty: made from the argument
  HubOptions hub;
  std::function<void(std::string_view)> notice = [](std::string_view) {};  // something long begins
  ChooseFile choose;                                     // empty: nobody can be asked
  std::function<bool()> stopped = [] { return false; };  // true ends a transfer; it can go on later
};

class ModelStore {
 public:
  // ROOT is $XDG_DATA_HOME/adze/models; it need not exist.
  ModelStore();
  ModelStore(std::filesystem::path root, std::vector<CatalogueEntry> catalogue, FetchModel fetch);

  // Sorted by name; those with a problem included.
  std::vector<StoredModel> list() const;
  std::vector<UnfinishedPull> unfinished() const;  // sorted by name
  // nullopt: not there. Looks at sizes only; verify() reads the files.
  std::optional<StoredModel> find(std::string_view name) const;
  // The GGUF file or the folder with a config.json that --model names: a path, or the name of a
  // model that is here. Throws core::Error that says what is here, the nearest name and how to get
  // more.
  std::filesystem::path resolve(std::string_view argument) const;

  // Makes the model available here, unless it is with the right checksums: fetched, or, where the
  // argument is a path, linked without a copy. Throws core::Error.
  StoredModel pull(const PullRequest& request) const;
  // The model's own files; those of a pulled path stay where they were, and so does what somebody
  // else put into the folder. Throws core::Error: not there.
  void remove(std::string_view name) const;
  // Throws core::Error: size or checksum differ.
  void verify(const StoredModel& model) const;

 private:
  StoredModel pull_entry(const CatalogueEntry& entry, const PullRequest& request) const;
  StoredModel add_path(const std::filesystem::path& path, std::string name) const;
  StoredModel pull_from_hub(const HubName& name, const PullRequest& request) const;
  // Throws core::Error where `name` is no name, is the catalogue's, or is another source's model;
  // else the model that has it, if any.
  std::optional<StoredModel> check_name(const std::string& name, const std::string& source) const;
  void remove_files(const StoredModel& model) const;
  StoredModel entry_model(const CatalogueEntry& entry) const;  // as it should be here
  const CatalogueEntry* find_entry(std::string_view name) const;
  core::Error unknown_name(std::string_view name) const;
  std::filesystem::path part_folder(std::string_view name) const;

  std::filesystem::path root_;
  std::vector<CatalogueEntry> catalogue_;
  FetchModel fetch_;
};

// Letters, digits, '.', '_' and '-', the first one no '.' or '-', at most 100: a plain file name on
// every system, and never a flag.
bool is_model_name(std::string_view name);
// Characters that a name cannot have become '-'; empty: nothing is left.
std::string model_name_from(std::string_view text);

}  // namespace adze::data
