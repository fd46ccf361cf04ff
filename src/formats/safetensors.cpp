#include "formats/safetensors.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "formats/quote_untrusted.h"
#include "formats/safetensors_header.h"
#include "formats/safetensors_index.h"
#include "formats/safetensors_layout.h"

namespace adze::formats {
namespace {

std::vector<std::string_view> sorted_names(std::span<const StoredTensor> tensors,
                                           std::span<const SkippedTensor> skipped) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size() + skipped.size());
  for (const StoredTensor& tensor : tensors) {
    names.emplace_back(tensor.name);
  }
  for (const SkippedTensor& tensor : skipped) {
    names.emplace_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(const std::filesystem::path& file_or_folder)
    : path_(file_or_folder) {
  if (!std::filesystem::is_directory(path_)) {
    add_file(path_);
  } else if (std::filesystem::exists(path_ / kSafetensorsFile)) {
    add_file(path_ / kSafetensorsFile);
  } else if (std::filesystem::exists(path_ / kSafetensorsIndex)) {
    add_shards(path_ / kSafetensorsIndex);
  } else {
    throw core::error("safetensors",
                      "{}: expected {} or {} in the folder, got neither",
                      path_.string(),
                      kSafetensorsFile,
                      kSafetensorsIndex);
  }
  sort_names();
}

void SafetensorsFolder::add_file(const std::filesystem::path& file) {
  files_.emplace_back(file);
  SafetensorsContents contents = read_safetensors(files_.back().bytes(), file.string());
  metadata_.merge(contents.metadata);
  tensors_.insert(tensors_.end(),
                  std::make_move_iterator(contents.tensors.begin()),
                  std::make_move_iterator(contents.tensors.end()));
  skipped_.insert(skipped_.end(),
                  std::make_move_iterator(contents.skipped.begin()),
                  std::make_move_iterator(contents.skipped.end()));
}

void SafetensorsFolder::add_shards(const std::filesystem::path& index) {
  const core::MappedFile file(index);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  for (const auto& [shard, names] : read_safetensors_index(text, index.string())) {
    const size_t first_tensor = tensors_.size();
    const size_t first_skipped = skipped_.size();
    add_file(path_ / shard);
    const auto there = sorted_names(std::span(tensors_).subspan(first_tensor),
                                    std::span(skipped_).subspan(first_skipped));
    for (const std::string& name : names) {
      if (!std::binary_search(there.begin(), there.end(), name)) {
        throw core::error("safetensors",
                          "{}: weight_map, {}: expected a file that has the tensor, got {}",
                          index.string(),
                          quote_untrusted(name),
                          quote_untrusted(shard));
      }
    }
  }
}

void SafetensorsFolder::sort_names() {
  const auto all = sorted_names(tensors_, skipped_);
  const auto twice = std::adjacent_find(all.begin(), all.end());
  if (twice != all.end()) {
    throw core::error("safetensors",
                      "{}: tensor {}: expected each name once, got it in two shards",
                      path_.string(),
                      quote_untrusted(*twice));
  }
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0U);
  std::sort(by_name_.begin(), by_name_.end(), [this](uint32_t left, uint32_t right) {
    return tensors_[left].name < tensors_[right].name;
  });
}

const StoredTensor* SafetensorsFolder::find_tensor(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name, [this](uint32_t index, std::string_view wanted) {
        return tensors_[index].name < wanted;
      });
  if (found == by_name_.end() || tensors_[*found].name != name) {
    return nullptr;
  }
  return &tensors_[*found];
}

}  // namespace adze::formats
