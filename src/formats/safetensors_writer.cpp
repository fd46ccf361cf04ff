#include <algorithm>
#include <deque>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/error.h"
#include "formats/quote_untrusted.h"
#include "formats/safetensors.h"
#include "formats/safetensors_layout.h"

namespace adze::formats {
namespace {

using Shard = std::vector<const TensorOutput*>;

const SafetensorsDtype& dtype_of(const TensorOutput& tensor) {
  for (const SafetensorsDtype& dtype : kSafetensorsDtypes) {
    if (dtype.type == tensor.type) {
      return dtype;
    }
  }
  core::check(false, tensor.name, " has type ", core::info(tensor.type).name);
  return kSafetensorsDtypes.front();
}

// What the reader refuses must not be written.
void check_tensors(const std::vector<TensorOutput>& tensors) {
  core::check(tensors.size() <= kSafetensorsMaxTensors, tensors.size(), " tensors");
  std::set<std::string_view> names;
  for (const TensorOutput& tensor : tensors) {
    core::check(!tensor.name.empty() && tensor.name.size() <= kSafetensorsMaxNameBytes &&
                    tensor.name != kSafetensorsMetadataKey,
                "tensor name ",
                tensor.name);
    core::check(names.insert(tensor.name).second, "duplicate tensor ", tensor.name);
    core::check(tensor.shape.size() <= kSafetensorsMaxDimensions,
                tensor.name,
                " has ",
                tensor.shape.size(),
                " dimensions");
    dtype_of(tensor);
    output_bytes(tensor);
  }
}

// In the order given, each as full as it may be.
std::vector<Shard> split(const std::vector<TensorOutput>& tensors, uint64_t max_bytes) {
  std::vector<Shard> shards(1);
  uint64_t bytes = 0;
  for (const TensorOutput& tensor : tensors) {
    const uint64_t size = output_bytes(tensor);
    if (!shards.back().empty() && (size > max_bytes || bytes > max_bytes - size)) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().push_back(&tensor);
  }
  return shards;
}

std::string json_text(const std::string& name) {
  try {
    return nlohmann::json(name).dump();
  } catch (const nlohmann::json::exception&) {
    throw core::error("safetensors", "tensor {}: expected UTF-8 as name", quote_untrusted(name));
  }
}

std::string header_of(const Shard& shard) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  uint64_t begin = 0;
  for (const TensorOutput* tensor : shard) {
    const uint64_t end = begin + output_bytes(*tensor);
    header += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          json_text(tensor->name),
                          dtype_of(*tensor).name,
                          fmt::join(tensor->shape, ","),
                          begin,
                          end);
    begin = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  core::check(header.size() <= kSafetensorsMaxHeaderBytes, "header of ", header.size(), " bytes");
  return header;
}

void write_shard(core::AtomicFile& file, Shard shard) {
  std::sort(shard.begin(), shard.end(), [](const TensorOutput* left, const TensorOutput* right) {
    return left->type != right->type ? &dtype_of(*left) < &dtype_of(*right)
                                     : left->name < right->name;
  });
  const std::string header = header_of(shard);
  const uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const TensorOutput* tensor : shard) {
    file.write(filled_bytes(*tensor));
  }
}

std::string shard_name(size_t number, size_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", number, count);
}

std::string index_of(const std::vector<Shard>& shards) {
  uint64_t total = 0;
  nlohmann::json map = nlohmann::json::object();  // sorts its keys
  for (size_t number = 0; number < shards.size(); ++number) {
    for (const TensorOutput* tensor : shards[number]) {
      total += output_bytes(*tensor);
      map[tensor->name] = shard_name(number + 1, shards.size());
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}},
                                {"weight_map", std::move(map)}};
  return index.dump(2) + "\n";
}

// A name that shard_name gives.
bool is_shard_name(std::string_view name) {
  constexpr std::string_view kPattern = "model-00000-of-00000.safetensors";
  return std::equal(
      name.begin(), name.end(), kPattern.begin(), kPattern.end(), [](char character, char pattern) {
        return pattern == '0' ? character >= '0' && character <= '9' : character == pattern;
      });
}

// What an earlier model left in the folder; a reader could take it for part of this one.
void remove_others(const std::filesystem::path& folder, const std::set<std::string>& written) {
  std::vector<std::filesystem::path> others;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_model =
        name == kSafetensorsFile || name == kSafetensorsIndex || is_shard_name(name);
    if (is_model && !written.contains(name)) {
      others.push_back(entry.path());
    }
  }
  for (const auto& path : others) {
    std::filesystem::remove(path);
  }
}

void write_files(const std::filesystem::path& folder, const std::vector<Shard>& shards) {
  std::filesystem::create_directories(folder);
  std::set<std::string> written;
  std::deque<core::AtomicFile> files;
  for (size_t number = 0; number < shards.size(); ++number) {
    const std::string name =
        shards.size() == 1 ? std::string(kSafetensorsFile) : shard_name(number + 1, shards.size());
    written.insert(name);
    write_shard(files.emplace_back(folder / name), shards[number]);
  }
  if (shards.size() > 1) {
    written.insert(std::string(kSafetensorsIndex));
    files.emplace_back(folder / kSafetensorsIndex).write(index_of(shards));
    // From here until the last rename the folder holds no model, rather than parts of two.
    std::filesystem::remove(folder / kSafetensorsIndex);
    std::filesystem::remove(folder / kSafetensorsFile);
  }
  for (core::AtomicFile& file : files) {
    file.commit();
  }
  remove_others(folder, written);
}

}  // namespace

void write_safetensors(const std::filesystem::path& folder,
                       const std::vector<TensorOutput>& tensors,
                       int64_t max_shard_bytes) {
  check_tensors(tensors);
  core::check(max_shard_bytes > 0, "shards of ", max_shard_bytes, " bytes");
  const auto shards = split(tensors, static_cast<uint64_t>(max_shard_bytes));
  core::check(shards.size() <= kSafetensorsMaxShards, shards.size(), " shards");
  try {
    write_files(folder, shards);
  } catch (const std::filesystem::filesystem_error& failure) {
    throw core::error(
        "safetensors", "cannot write {}: {}", folder.string(), failure.code().message());
  }
}

}  // namespace adze::formats
