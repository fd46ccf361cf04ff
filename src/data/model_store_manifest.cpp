#include "data/model_store_manifest.h"

#include <fstream>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/json.h"
#include "data/hub_name.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

// About 150 bytes a file; more than this is not one of ours.
constexpr size_t kLargestManifest = 1 << 20;
constexpr int64_t kMaxFileBytes = 1'000'000'000'000'000;

std::string read_small_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestManifest + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

StoredFile read_file(const nlohmann::json& values, const char* path) {
  StoredFile file{.path = values.at(path).get<std::string>(),
                  .bytes = values.at("bytes").get<int64_t>(),
                  .sha256 = values.at("sha256").get<std::string>()};
  if (file.bytes < 0 || file.bytes > kMaxFileBytes) {
    throw core::error("model", "bytes: expected 0 to {}, got {}", kMaxFileBytes, file.bytes);
  }
  return file;
}

}  // namespace

StoredModel read_manifest(const fs::path& folder, const std::string& name) {
  StoredModel model;
  model.name = name;
  model.path = folder;
  try {
    const auto values = core::parse_json(read_small_file(folder / kManifest), kManifest);
    model.source = values.at("source").get<std::string>();
    model.is_folder = values.contains("files");
    if (model.is_folder) {
      for (const auto& file : values.at("files")) {
        model.files.push_back(read_file(file, "path"));
      }
    } else {
      model.files.push_back(read_file(values, "file"));
    }
    for (const StoredFile& file : model.files) {
      if (!is_hub_path(file.path) ||
          (!model.is_folder && file.path.find('/') != std::string::npos)) {
        model.files.clear();
        model.problem = fmt::format("{} names a file outside its folder", kManifest);
        return model;
      }
      model.bytes += file.bytes;
    }
    if (model.files.empty()) {
      throw core::error("model", "files: expected at least one, got none");
    }
    if (!model.is_folder) {
      model.path = folder / model.files[0].path;
    }
    model.problem = size_problem(model);
  } catch (const nlohmann::json::exception&) {
    model.problem = fmt::format("{} is damaged", (folder / kManifest).string());
  } catch (const core::Error&) {
    model.problem = fmt::format("{} is damaged", (folder / kManifest).string());
  }
  return model;
}

void write_manifest(const fs::path& folder, const StoredModel& model) {
  nlohmann::ordered_json values = {{"name", model.name}};
  if (model.is_folder) {
    values["files"] = nlohmann::ordered_json::array();
    for (const StoredFile& file : model.files) {
      values["files"].push_back(
          {{"path", file.path}, {"bytes", file.bytes}, {"sha256", file.sha256}});
    }
  } else {
    values["file"] = model.files.at(0).path;
    values["sha256"] = model.files.at(0).sha256;
  }
  values["bytes"] = model.bytes;
  values["source"] = model.source;
  core::AtomicFile file(folder / kManifest);
  file.write(values.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  file.commit();
}

std::string size_problem(const StoredModel& model) {
  for (const StoredFile& file : model.files) {
    const fs::path path = model.file_path(file);
    std::error_code missing;
    const auto bytes = static_cast<int64_t>(fs::file_size(path, missing));
    if (missing) {
      return fmt::format("{} is missing", path.string());
    }
    if (bytes != file.bytes) {
      return fmt::format("{} has {} bytes, expected {}", path.string(), bytes, file.bytes);
    }
  }
  return "";
}

}  // namespace adze::data
