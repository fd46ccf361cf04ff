#pragma once
// All runs of this machine's user, in one SQLite file: $ADZE_RUNS, else runs.sqlite in adze's data
// folder. Curves stay in the runs' own folders. Several processes may use it at once.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

struct sqlite3;

namespace adze::train {

struct CataloguedRun {
  int64_t number = 0;
  std::string folder;   // absolute
  std::string started;  // UTC, ISO 8601
  std::string state;    // running, stopped, finished; one that was killed stays "running"
  nlohmann::ordered_json config;
  nlohmann::ordered_json summary;  // null until it is finished
};

std::filesystem::path run_catalogue_path();

class RunCatalogue {
 public:
  // Makes file and folder where they are missing. Throws core::Error.
  explicit RunCatalogue(const std::filesystem::path& file = run_catalogue_path());

  // A folder has one entry; a new run in a folder of that name takes its place.
  void set(const std::filesystem::path& folder,
           std::string_view state,
           const nlohmann::ordered_json& config,
           const nlohmann::ordered_json& summary);
  std::vector<CataloguedRun> runs() const;  // the newest last
  // By number or folder; throws core::Error that names those there are.
  CataloguedRun find(const std::string& name) const;

 private:
  std::shared_ptr<sqlite3> database_;
};

}  // namespace adze::train
