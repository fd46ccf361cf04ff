#include "train/run_catalogue.h"

#include <chrono>

#include <sqlite3.h>

#include "core/env.h"
#include "core/error.h"

namespace adze::train {
namespace {

constexpr const char* kTables = R"(
CREATE TABLE IF NOT EXISTS runs (
  number INTEGER PRIMARY KEY,
  folder TEXT NOT NULL UNIQUE,
  started TEXT NOT NULL,
  state TEXT NOT NULL,
  config TEXT NOT NULL,
  summary TEXT NOT NULL))";

[[noreturn]] void fail(sqlite3* database) {
  throw core::error("runs",
                    "cannot use the catalogue {}: {}",
                    run_catalogue_path().string(),
                    sqlite3_errmsg(database));
}

// One statement; texts are bound, never pasted.
class Statement {
 public:
  Statement(sqlite3* database, const char* text) : database_(database) {
    if (sqlite3_prepare_v2(database, text, -1, &statement_, nullptr) != SQLITE_OK) {
      fail(database);
    }
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::string_view value) {
    const auto size = static_cast<int>(value.size());
    if (sqlite3_bind_text(statement_, ++bound_, value.data(), size, SQLITE_TRANSIENT) !=
        SQLITE_OK) {
      fail(database_);
    }
    return *this;
  }
  bool step() {
    const int result = sqlite3_step(statement_);
    if (result != SQLITE_ROW && result != SQLITE_DONE) {
      fail(database_);
    }
    return result == SQLITE_ROW;
  }
  int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return {bytes, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
  }

 private:
  sqlite3* database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

std::string now() {
  const std::time_t time = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

nlohmann::ordered_json parsed(const std::string& text) {
  auto value = nlohmann::ordered_json::parse(text, nullptr, false);
  return value.is_discarded() ? nlohmann::ordered_json() : value;
}

std::string normal(const std::filesystem::path& folder) {
  return std::filesystem::absolute(folder / "").lexically_normal().parent_path().string();
}

}  // namespace

std::filesystem::path run_catalogue_path() {
  if (const auto path = core::environment("ADZE_RUNS")) {
    return *path;
  }
  return core::data_folder() / "runs.sqlite";
}

RunCatalogue::RunCatalogue(const std::filesystem::path& file) {
  std::error_code ignored;  // what cannot be made cannot be opened either
  std::filesystem::create_directories(std::filesystem::absolute(file).parent_path(), ignored);
  sqlite3* database = nullptr;
  const int result = sqlite3_open(file.c_str(), &database);
  database_ = {database, sqlite3_close};
  if (result != SQLITE_OK) {
    fail(database);
  }
  sqlite3_busy_timeout(database, 10'000);
  Statement(database, kTables).step();
}

void RunCatalogue::set(const std::filesystem::path& folder,
                       std::string_view state,
                       const nlohmann::ordered_json& config,
                       const nlohmann::ordered_json& summary) {
  Statement(database_.get(),
            "INSERT INTO runs (folder, started, state, config, summary) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (folder) DO UPDATE SET state = excluded.state, config = excluded.config, "
            "summary = excluded.summary")
      .bind(normal(folder))
      .bind(now())
      .bind(state)
      .bind(config.dump())
      .bind(summary.dump())
      .step();
}

std::vector<CataloguedRun> RunCatalogue::runs() const {
  Statement statement(
      database_.get(),
      "SELECT number, folder, started, state, config, summary FROM runs ORDER BY number");
  std::vector<CataloguedRun> runs;
  while (statement.step()) {
    runs.push_back({statement.integer(0),
                    statement.text(1),
                    statement.text(2),
                    statement.text(3),
                    parsed(statement.text(4)),
                    parsed(statement.text(5))});
  }
  return runs;
}

CataloguedRun RunCatalogue::find(const std::string& name) const {
  const std::vector<CataloguedRun> all = runs();
  for (const CataloguedRun& run : all) {
    if (std::to_string(run.number) == name || run.folder == normal(name)) {
      return run;
    }
  }
  throw core::error("runs",
                    "expected the folder of a run or a number up to {}, got {}",
                    all.empty() ? 0 : all.back().number,
                    name);
}

}  // namespace adze::train
