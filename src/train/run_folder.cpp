#include "train/run_folder.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/write_all.h"
#include "formats/sha256.h"
#include "train/event_file.h"

namespace adze::train {
namespace {

constexpr const char* kManifest = "manifest.json";
constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kEvents = "events.out.tfevents.0";
constexpr const char* kCheckpoints = "checkpoints";
constexpr const char* kLock = "lock";

core::Error system_error(const char* action, const std::filesystem::path& path) {
  return core::error("train", "cannot {} {}: {}", action, path.string(), std::strerror(errno));
}

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : path_(path) {
    value_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (value_ < 0) {
      throw system_error("open", path);
    }
  }
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  void write(std::span<const std::byte> bytes) const {
    if (!core::write_all(value_, bytes)) {
      throw system_error("write", path_);
    }
  }
  void sync() const {
    if (::fsync(value_) != 0) {
      throw system_error("write", path_);
    }
  }
  int release() { return std::exchange(value_, -1); }
  int get() const { return value_; }

 private:
  std::filesystem::path path_;
  int value_;
};

void sync_folder(const std::filesystem::path& path) {
  Descriptor(path, O_RDONLY | O_DIRECTORY).sync();
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

uint64_t bytes_of(const RunFolder::Part& part) {
  uint64_t bytes = 0;
  for (const auto& piece : part.pieces) {
    bytes += piece.size();
  }
  return bytes;
}

// Writes one file of a checkpoint; returns its entry in the manifest.
nlohmann::ordered_json write_part(const std::filesystem::path& folder,
                                  const RunFolder::Part& part) {
  const Descriptor file(folder / part.name, O_WRONLY | O_CREAT | O_TRUNC);
  formats::Sha256 hash;
  for (const auto& piece : part.pieces) {
    hash.update(piece);
    file.write(piece);
  }
  file.sync();
  return {{"name", part.name}, {"bytes", bytes_of(part)}, {"sha256", hash.finish()}};
}

void require(bool holds, const std::filesystem::path& path, std::string_view expected) {
  if (!holds) {
    throw core::error("train", "{}: expected {}", path.string(), expected);
  }
}

// The checkpoint's info once all its files are mapped and proven whole.
nlohmann::json read_checkpoint(const std::filesystem::path& folder,
                               const std::vector<RunFolder::Part>& parts,
                               std::vector<core::MappedFile>& files) {
  const auto manifest_file = folder / kManifest;
  const nlohmann::json manifest =
      core::parse_json(read_text(manifest_file), manifest_file.string());
  require(manifest.is_object() && manifest.contains("info") && manifest.contains("files") &&
              manifest["files"].is_array() && manifest["files"].size() == parts.size(),
          manifest_file,
          fmt::format("an object with info and {} files", parts.size()));
  // The info is covered too: a flipped digit in it would resume from another place.
  const std::string info = manifest["info"].dump();
  require(manifest.value("info_sha256", "") == formats::sha256(std::as_bytes(std::span(info))),
          manifest_file,
          "the checksum of its own info");
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto path = folder / parts[i].name;
    const nlohmann::json& entry = manifest["files"][i];
    const core::MappedFile& file = files.emplace_back(path);
    require(file.bytes().size() == bytes_of(parts[i]),
            path,
            fmt::format("{} bytes, got {}", bytes_of(parts[i]), file.bytes().size()));
    require(entry.is_object() && entry.value("name", "") == parts[i].name &&
                entry.value("sha256", "") == formats::sha256(file.bytes()),
            path,
            "the checksum of the manifest");
  }
  return manifest["info"];
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// The row's numbers for TensorBoard, as of its time.
std::string event_of(const nlohmann::ordered_json& row) {
  std::vector<Scalar> scalars;
  for (const auto& [name, value] : row.items()) {
    if (name != "step" && name != "time" && value.is_number()) {
      scalars.push_back({name, value.get<double>()});
    }
  }
  const auto time = row.find("time");
  const bool known = time != row.end() && time->is_number();
  return frame_record(scalars_event(
      known ? time->get<double>() : seconds_since_1970(), row.at("step").get<int64_t>(), scalars));
}

// Calls body(row, its line) for each whole row of metrics.
template <class Body>
void for_rows(const std::string& text, Body&& body) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) {
      break;
    }
    const std::string line = text.substr(begin, end + 1 - begin);
    const auto row = nlohmann::ordered_json::parse(line, nullptr, false);
    if (row.is_object() && row.contains("step") && row["step"].is_number_integer()) {
      body(row, line);
    }
    begin = end + 1;
  }
}

// Whether a run that died before it wrote its config.json may have left the name behind.
bool precedes_config(const std::string& name) {
  return name == kCheckpoints || name == kMetrics || name == kLock ||
         name.starts_with("events.out.tfevents.") || name.find(".partial-") != std::string::npos;
}

}  // namespace

void check_folder(const std::filesystem::path& path, bool resume) {
  if (!std::filesystem::exists(path)) {
    return;
  }
  if (!std::filesystem::is_directory(path)) {
    throw core::error("train", "out: expected a folder, {} is none", path.string());
  }
  if (!resume && !std::filesystem::is_empty(path)) {
    throw core::error(
        "train", "out: {} has files in it; --resume goes on with a run", path.string());
  }
  // A model's folder has a config.json too.
  if (std::filesystem::exists(path / kConfig)) {
    const auto config = read_json(path / kConfig);
    if (!config || !config->is_object() || !config->contains("step-tokens")) {
      throw core::error("train",
                        "out: expected the folder of a run, got {} whose {} lacks step-tokens",
                        path.string(),
                        kConfig);
    }
    return;
  }
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (!precedes_config(name)) {
      throw core::error(
          "train", "out: expected the folder of a run, got {} with {}", path.string(), name);
    }
  }
}

std::optional<nlohmann::ordered_json> read_json(const std::filesystem::path& file) {
  auto value = nlohmann::ordered_json::parse(read_text(file), nullptr, false);
  return value.is_discarded() ? std::nullopt : std::optional(std::move(value));
}

RunFolder::RunFolder(std::filesystem::path path, bool resume) : path_(std::move(path)) {
  check_folder(path_, resume);
  std::filesystem::create_directories(path_ / kCheckpoints);
  lock_ = Descriptor(path_ / kLock, O_RDWR | O_CREAT).release();
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock_);
    throw core::error("train", "another process trains in {}", path_.string());
  }
  open_metrics();
}

RunFolder::~RunFolder() {
  ::close(events_);
  ::close(metrics_);
  ::close(lock_);
}

void RunFolder::write_json(const std::string& name, const nlohmann::ordered_json& value) const {
  core::AtomicFile file(path_ / name);
  file.write(value.dump(2) + "\n");
  file.commit();
}

void RunFolder::add_metrics(nlohmann::ordered_json row) {
  row["time"] = seconds_since_1970();
  const std::string line = row.dump() + "\n";
  if (!core::write_all(metrics_, std::as_bytes(std::span(line)))) {
    throw system_error("write", path_ / kMetrics);
  }
  const std::string event = event_of(row);
  if (!core::write_all(events_, std::as_bytes(std::span(event)))) {
    throw system_error("write", path_ / kEvents);
  }
}

void RunFolder::open_metrics() {
  ::close(std::exchange(events_, -1));
  ::close(std::exchange(metrics_, -1));
  metrics_ = Descriptor(path_ / kMetrics, O_WRONLY | O_CREAT | O_APPEND).release();
  core::AtomicFile file(path_ / kEvents);
  file.write(frame_record(version_event(seconds_since_1970())));
  for_rows(read_text(path_ / kMetrics),
           [&](const auto& row, const std::string&) { file.write(event_of(row)); });
  file.commit();
  events_ = Descriptor(path_ / kEvents, O_WRONLY | O_APPEND).release();
}

void RunFolder::cut_metrics(int64_t step) {
  const std::string text = read_text(path_ / kMetrics);
  std::string kept;
  for_rows(text, [&](const auto& row, const std::string& line) {
    if (row["step"].template get<int64_t>() <= step) {
      kept += line;
    }
  });
  if (kept != text) {
    core::AtomicFile file(path_ / kMetrics);
    file.write(kept);
    file.commit();
    open_metrics();
  }
}

std::vector<std::filesystem::path> RunFolder::checkpoints() const {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(path_ / kCheckpoints)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > 5 && name.starts_with("step-") &&
        name.find_first_not_of("0123456789", 5) == std::string::npos) {
      found.push_back(entry.path());
    }
  }
  // Numbers are padded, so names sort as numbers do.
  std::sort(found.begin(), found.end(), std::greater<>());
  return found;
}

void RunFolder::save_checkpoint(int64_t step,
                                const nlohmann::ordered_json& info,
                                const std::vector<Part>& parts,
                                int64_t keep) const {
  if (::fsync(metrics_) != 0) {
    throw system_error("write", path_ / kMetrics);
  }
  const auto folder = path_ / kCheckpoints / fmt::format("step-{:010}", step);
  const auto part_folder = folder.string() + ".part";
  try {
    std::filesystem::remove_all(part_folder);
    std::filesystem::create_directory(part_folder);
    auto files = nlohmann::ordered_json::array();
    for (const Part& part : parts) {
      files.push_back(write_part(part_folder, part));
    }
    // Checked in the order of its keys, which a reader of plain JSON sorts.
    const std::string sorted = nlohmann::json(info).dump();
    const nlohmann::ordered_json manifest{
        {"info", info},
        {"info_sha256", formats::sha256(std::as_bytes(std::span(sorted)))},
        {"files", files}};
    const std::string text = manifest.dump(2) + "\n";
    const Descriptor file(std::filesystem::path(part_folder) / kManifest,
                          O_WRONLY | O_CREAT | O_TRUNC);
    file.write(std::as_bytes(std::span(text)));
    file.sync();
    sync_folder(part_folder);
    // A damaged checkpoint of this step makes way.
    std::filesystem::remove_all(folder);
    std::filesystem::rename(part_folder, folder);
    sync_folder(path_ / kCheckpoints);
  } catch (const std::filesystem::filesystem_error& failure) {
    throw core::error("train", "cannot write a checkpoint: {}", failure.what());
  } catch (const core::Error&) {
    std::error_code ignored;
    std::filesystem::remove_all(part_folder, ignored);
    throw;
  }
  int64_t kept = 0;
  for (const auto& checkpoint : checkpoints()) {
    // One beyond this step was damaged when the run was resumed.
    if (checkpoint.filename() <= folder.filename() && kept < keep) {
      ++kept;
      continue;
    }
    std::error_code ignored;
    std::filesystem::remove_all(checkpoint, ignored);
  }
}

std::optional<nlohmann::json> RunFolder::load_checkpoint(
    const std::vector<Part>& parts, const std::function<void(std::string_view)>& notice) const {
  const auto all = checkpoints();
  for (const auto& folder : all) {
    try {
      std::vector<core::MappedFile> files;
      nlohmann::json info = read_checkpoint(folder, parts, files);
      for (size_t i = 0; i < parts.size(); ++i) {
        const std::byte* source = files[i].bytes().data();
        for (const auto& piece : parts[i].pieces) {
          std::memcpy(piece.data(), source, piece.size());
          source += piece.size();
        }
      }
      return info;
    } catch (const std::exception& failure) {  // ours, or nlohmann's of a wrong type
      notice(fmt::format(
          "checkpoint {} is damaged and left out: {}", folder.filename().string(), failure.what()));
    }
  }
  if (!all.empty()) {  // to begin again would empty the metrics of a run that may still be mended
    throw core::error("train",
                      "{}: expected a checkpoint that is whole, got none of {}; nothing is changed",
                      (path_ / kCheckpoints).string(),
                      all.size());
  }
  return std::nullopt;
}

}  // namespace adze::train
