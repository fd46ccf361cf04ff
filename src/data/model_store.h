#pragma once
// Models by name, one folder each: ROOT/NAME/{FILE.gguf, model.json}. model.json holds name, file,
// sha256, bytes and source; it is written last, so that a folder with it is complete. Names come
// from strangers and never leave ROOT.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/model_catalogue.h"

namespace adze::data {

struct StoredModel {
  std::string name;
  std::filesystem::path path;  // of the file
  int64_t bytes = 0;
  std::string sha256;   // as it should be
  std::string source;   // where it came from
  std::string problem;  // empty: usable; else what is wrong with it, for a person
};

class ModelStore {
 public:
  // ROOT is $XDG_DATA_HOME/adze/models; it need not exist.
  ModelStore();
  ModelStore(std::filesystem::path root, std::vector<CatalogueEntry> catalogue, FetchModel fetch);

  // Sorted by name; those with a problem included.
  std::vector<StoredModel> list() const;
  // nullopt: not there. Looks at sizes only; verify() reads the whole file.
  std::optional<StoredModel> find(std::string_view name) const;
  // The file that --model names: a path, or the name of a model that is here. Throws core::Error
  // that says what is here, the nearest name and how to get more.
  std::filesystem::path resolve(std::string_view argument) const;

  // A catalogue name, fetched unless it is here with the right checksum, or the path of a GGUF
  // file, linked without a copy under `name` (empty: made from the file's name). `notice` gets
  // a line when something long begins.
  StoredModel pull(std::string_view argument,
                   std::string_view name,
                   const std::function<void(std::string_view)>& notice) const;
  // The file of a pulled path stays where it was. Throws core::Error: not there.
  void remove(std::string_view name) const;
  // Throws core::Error: size or checksum differ.
  void verify(const StoredModel& model) const;

 private:
  StoredModel read_manifest(const std::string& name) const;
  void write_manifest(const StoredModel& model) const;
  StoredModel pull_entry(const CatalogueEntry& entry,
                         const std::function<void(std::string_view)>& notice) const;
  StoredModel add_file(const std::filesystem::path& file, std::string name) const;
  const CatalogueEntry* find_entry(std::string_view name) const;
  core::Error unknown_name(std::string_view name) const;

  std::filesystem::path root_;
  std::vector<CatalogueEntry> catalogue_;
  FetchModel fetch_;
};

// Letters, digits, '.', '_' and '-', the first one no '.' or '-', at most 100: a plain file name on
// every system, and never a flag.
bool is_model_name(std::string_view name);

}  // namespace adze::data
