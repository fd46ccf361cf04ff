#include "formats/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/check.h"
#include "core/error.h"
#include "core/rng.h"
#include "formats/dequantize.h"

namespace adze::formats {
namespace {

using core::TensorType;
using Path = std::filesystem::path;

// Removed when the test ends, whatever happened.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("adze-safetensors-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const Path& path() const { return path_; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  Path path_;
};

std::string contents_of(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_text(const Path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const core::Error& failure) {
    return failure.what();
  }
  return "no error";
}

std::vector<float> floats_of(const StoredTensor& tensor) {
  const auto size = static_cast<size_t>(core::info(tensor.type).block_bytes);
  std::vector<float> values(tensor.data.size() / size);
  dequantize_row(
      tensor.type, tensor.data.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

// The k-th value is k / 8 - 1, as in golden/make_safetensors.py.
void expect_ramp(const StoredTensor* tensor, TensorType type, const std::vector<int64_t>& shape) {
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->type, type);
  EXPECT_EQ(tensor->shape, shape);
  const auto values = floats_of(*tensor);
  for (size_t index = 0; index < values.size(); ++index) {
    EXPECT_EQ(values[index], static_cast<float>(index) / 8 - 1) << tensor->name;
  }
}

TEST(Safetensors, ReadsAFileOfAnotherWriter) {  // golden/make_safetensors.py
  const SafetensorsFolder file("src/formats/golden/reference.safetensors");
  EXPECT_EQ(file.tensors().size(), 5);
  expect_ramp(file.find_tensor("b.weight"), TensorType::kF32, {2, 3});
  expect_ramp(file.find_tensor("a.weight"), TensorType::kF16, {3, 5});
  expect_ramp(file.find_tensor("c.weight"), TensorType::kBF16, {7});
  expect_ramp(file.find_tensor("quo\"te\\\u00e9"), TensorType::kF32, {});
  expect_ramp(file.find_tensor("empty"), TensorType::kF16, {0, 4});
  EXPECT_EQ(file.find_tensor("position_ids"), nullptr);
  EXPECT_EQ(file.find_tensor(""), nullptr);
  std::map<std::string, std::string> skipped;
  for (const SkippedTensor& tensor : file.skipped()) {
    skipped[tensor.name] = fmt::format("{} {}", tensor.dtype, tensor.shape);
  }
  EXPECT_EQ(skipped,
            (std::map<std::string, std::string>{
                {"position_ids", "I64 [1, 5]"}, {"mask", "BOOL [3]"}, {"bytes", "U8 [2, 2]"}}));
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"k\u00e9", "v\u00e4\nlue"}}));
  EXPECT_EQ(file.path(), "src/formats/golden/reference.safetensors");
}

TEST(Safetensors, WritesWhatTheReferenceWrites) {  // golden/make_safetensors.py
  const SafetensorsFolder source("src/formats/golden/written.safetensors");
  std::vector<TensorOutput> outputs;
  for (const StoredTensor& tensor : source.tensors()) {
    outputs.insert(outputs.begin(), copy_of(tensor));  // another order
  }
  const TemporaryFolder folder;
  write_safetensors(folder.path(), outputs);
  EXPECT_EQ(folder.files(), std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(contents_of(folder.path() / "model.safetensors"),
            contents_of("src/formats/golden/written.safetensors"));
}

TensorOutput ramp(const std::string& name, std::vector<int64_t> shape) {
  return {name, TensorType::kF32, std::move(shape), [](std::span<std::byte> target) {
            for (size_t index = 0; index < target.size() / 4; ++index) {
              const float value = static_cast<float>(index) / 8 - 1;
              std::memcpy(target.data() + 4 * index, &value, 4);
            }
          }};
}

const std::vector<std::string> kThreeShards = {"model-00001-of-00003.safetensors",
                                               "model-00002-of-00003.safetensors",
                                               "model-00003-of-00003.safetensors",
                                               "model.safetensors.index.json"};

// Tensors of 40, 40, 40, 400 and 20 bytes in shards of up to 100: two, then one, one and one.
std::vector<TensorOutput> five_tensors() {
  return {ramp("e", {10}), ramp("d", {2, 5}), ramp("c", {100}), ramp("b", {5}), ramp("a", {20})};
}

TEST(Safetensors, SplitsIntoShardsAndReadsThem) {
  const TemporaryFolder folder;
  write_safetensors(folder.path(), five_tensors(), 100);
  EXPECT_EQ(folder.files(), kThreeShards);
  const auto index =
      nlohmann::json::parse(contents_of(folder.path() / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 580);
  EXPECT_EQ(index["weight_map"].size(), 5);
  EXPECT_EQ(index["weight_map"]["e"], kThreeShards[0]);
  EXPECT_EQ(index["weight_map"]["d"], kThreeShards[0]);
  EXPECT_EQ(index["weight_map"]["c"], kThreeShards[1]);
  EXPECT_EQ(index["weight_map"]["b"], kThreeShards[2]);
  EXPECT_EQ(index["weight_map"]["a"], kThreeShards[2]);
  const SafetensorsFolder read(folder.path());
  EXPECT_EQ(read.tensors().size(), 5);
  expect_ramp(read.find_tensor("d"), TensorType::kF32, {2, 5});
  expect_ramp(read.find_tensor("c"), TensorType::kF32, {100});
  EXPECT_EQ(read.metadata().at("format"), "pt");
  EXPECT_EQ(SafetensorsFolder(folder.path() / kThreeShards[2]).tensors().size(), 2);
}

TEST(Safetensors, LeavesNothingOfTheModelBefore) {
  const TemporaryFolder folder;
  write_safetensors(folder.path(), five_tensors(), 100);
  write_text(folder.path() / "model-1-of-2.safetensors", "not ours");
  write_safetensors(folder.path(), {ramp("new", {1})});
  EXPECT_EQ(folder.files(),
            (std::vector<std::string>{"model-1-of-2.safetensors", "model.safetensors"}));
  write_safetensors(folder.path(), five_tensors(), 100);
  EXPECT_EQ(folder.files().size(), 5);
  EXPECT_EQ(SafetensorsFolder(folder.path()).find_tensor("new"), nullptr);
  // A failure halfway leaves the model that is there, and no temporary files.
  auto failing = five_tensors();
  failing.back().fill = [](auto) { throw core::Error("no more"); };
  EXPECT_THROW(write_safetensors(folder.path(), failing, 100), core::Error);
  EXPECT_EQ(folder.files().size(), 5);
  EXPECT_EQ(SafetensorsFolder(folder.path()).tensors().size(), 5);
}

TEST(Safetensors, RandomModelsReadBackUnchanged) {
  core::Rng rng(3);
  for (int round = 0; round < 50; ++round) {
    const TemporaryFolder folder;
    std::vector<TensorOutput> outputs;
    std::map<std::string, std::vector<std::byte>> expected;
    const uint64_t count = rng.next_uint64() % 12;
    for (uint64_t index = 0; index < count; ++index) {
      constexpr TensorType kTypes[] = {TensorType::kF32, TensorType::kF16, TensorType::kBF16};
      StoredTensor tensor{std::to_string(rng.next_uint64()), kTypes[rng.next_uint64() % 3], {}, {}};
      for (uint64_t axis = rng.next_uint64() % 4; axis > 0; --axis) {
        tensor.shape.push_back(static_cast<int64_t>(rng.next_uint64() % 6));
      }
      auto& bytes = expected[tensor.name];
      bytes.resize(output_bytes({tensor.name, tensor.type, tensor.shape, {}}));
      for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(rng.next_uint64());
      }
      tensor.data = bytes;
      outputs.push_back(copy_of(tensor));
    }
    write_safetensors(folder.path(), outputs, 1 + static_cast<int64_t>(rng.next_uint64() % 400));
    const SafetensorsFolder read(folder.path());
    ASSERT_EQ(read.tensors().size(), outputs.size());
    for (const TensorOutput& output : outputs) {
      const StoredTensor* tensor = read.find_tensor(output.name);
      ASSERT_NE(tensor, nullptr);
      EXPECT_EQ(tensor->type, output.type);
      EXPECT_EQ(tensor->shape, output.shape);
      EXPECT_TRUE(std::ranges::equal(tensor->data, expected[output.name]));
    }
  }
}

TEST(Safetensors, AsksForOneTensorAtATime) {
  std::vector<TensorOutput> outputs;
  size_t asked = 0;
  for (int index = 0; index < 100; ++index) {
    outputs.push_back({std::to_string(index), TensorType::kF16, {3}, [&](auto target) {
                         ++asked;
                         EXPECT_EQ(target.size(), 6);
                       }});
  }
  const TemporaryFolder folder;
  write_safetensors(folder.path(), outputs, 100);
  EXPECT_EQ(asked, 100);
}

TEST(Safetensors, WriterRefusesWhatTheReaderWould) {
  const TemporaryFolder folder;
  const auto refused = [&](std::vector<TensorOutput> tensors, int64_t bytes = 100) {
    EXPECT_THROW(write_safetensors(folder.path(), tensors, bytes), core::CheckFailure);
    EXPECT_FALSE(std::filesystem::exists(folder.path()));
  };
  refused({ramp("", {1})});
  refused({ramp("__metadata__", {1})});
  refused({ramp(std::string(513, 'n'), {1})});
  refused({ramp("a", {1}), ramp("a", {2})});
  refused({ramp("a", {1, 1, 1, 1, 1, 1, 1, 1, 1})});
  refused({ramp("a", {-1})});
  refused({ramp("a", {int64_t{1} << 40, int64_t{1} << 40})});
  refused({{"a", TensorType::kQ8_0, {32}, {}}});
  refused({ramp("a", {1})}, 0);
  const std::string message =
      message_of([&] { write_safetensors(folder.path(), {ramp("\xff", {1})}); });
  EXPECT_EQ(message, "[safetensors] tensor \"\\xff\": expected UTF-8 as name");
  write_text(folder.path() / "file", "");
  EXPECT_THROW(write_safetensors(folder.path() / "file" / "below", {}), core::Error);
}

TEST(Safetensors, CopiesCheckTheirSize) {
  const std::vector<std::byte> data(8);
  const TensorOutput copy = copy_of({"t", TensorType::kF32, {3}, data});
  EXPECT_THROW(filled_bytes(copy), core::CheckFailure);
}

}  // namespace
}  // namespace adze::formats
