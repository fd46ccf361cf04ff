#pragma once
// The folder of a training run:
//
//   config.json            the effective options
//   metrics.jsonl          a row a step, a row an evaluation
//   events.out.tfevents.0  the same rows for TensorBoard
//   checkpoints/step-N/    complete states after N steps, the newest few
//   model/                 the trained model, as a Hugging Face folder; or
//   adapter/               the trained factors, as PEFT writes them
//   summary.json           what the run came to; there when it is finished
//
// A checkpoint is written under another name, fsynced and renamed, so one under its own name is
// complete unless something damaged it later, which its checksums show.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::train {

inline constexpr const char* kConfig = "config.json";

// Throws core::Error: no folder; it has something in it and `resume` is false; or what is in it is
// no run's.
void check_folder(const std::filesystem::path& path, bool resume);
// nullopt: no such file, or no JSON.
std::optional<nlohmann::ordered_json> read_json(const std::filesystem::path& file);

class RunFolder {
 public:
  // Makes it. Throws core::Error: what check_folder finds; another process trains in it.
  RunFolder(std::filesystem::path path, bool resume);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path model_path() const { return path_ / "model"; }
  std::filesystem::path adapter_path() const { return path_ / "adapter"; }

  // Complete or absent.
  void write_json(const std::string& name, const nlohmann::ordered_json& value) const;

  // Appends a row at once, its time added, and its numbers as an event; a process that dies loses
  // none that were added.
  void add_metrics(nlohmann::ordered_json row);
  // Drops rows of steps above `step`, and a last row that was cut short.
  void cut_metrics(int64_t step);

  struct Part {
    std::string name;  // of the file in the checkpoint's folder
    std::vector<std::span<std::byte>> pieces;
  };
  // Writes the parts and `info` as the checkpoint after `step` steps, then drops all but the `keep`
  // newest up to it. Throws core::Error (full disk); other checkpoints are then as they were.
  void save_checkpoint(int64_t step,
                       const nlohmann::ordered_json& info,
                       const std::vector<Part>& parts,
                       int64_t keep) const;
  // Fills the parts from the newest checkpoint that is whole and fits, and returns its info;
  // nullopt: the folder has none. `notice` is told of those that are damaged. Throws core::Error:
  // all of them are.
  std::optional<nlohmann::json> load_checkpoint(
      const std::vector<Part>& parts, const std::function<void(std::string_view)>& notice) const;

 private:
  std::vector<std::filesystem::path> checkpoints() const;  // the newest first
  void open_metrics();  // for appending; events are made anew from the rows there are

  std::filesystem::path path_;
  int lock_ = -1;
  int metrics_ = -1;
  int events_ = -1;
};

}  // namespace adze::train
