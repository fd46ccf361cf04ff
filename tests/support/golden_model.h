#pragma once
// Small models of every architecture and what transformers computes from them
// (tests/golden/models/make_models.py). Weights follow from the tensors' names by a hash, the same
// as in tests/reference/hashed_weights.py; a checksum says that both sides have the same bits.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/float16.h"
#include "core/json.h"
#include "core/tensor_type.h"

namespace adze::golden {

// Tests run in the repository root.
inline const std::filesystem::path kModelsFolder = "tests/golden/models";

struct GoldenTensor {
  std::string name;  // as in a Hugging Face checkpoint
  std::vector<int64_t> shape;
  float offset = 0;
  float scale = 0;

  int64_t size() const {
    int64_t count = 1;
    for (const int64_t extent : shape) {
      count *= extent;
    }
    return count;
  }
};

struct GoldenSequence {
  std::vector<int32_t> tokens;
  std::vector<int32_t> token_types;  // encoders only
  std::vector<int64_t> rows;         // positions that `expected` holds
  std::vector<float> expected;       // [rows, width]
};

struct GoldenModel {
  std::string name;
  std::filesystem::path folder;
  bool is_encoder = false;
  int64_t width = 0;                  // vocab_size of logits; hidden_size of an encoder's states
  std::vector<GoldenTensor> tensors;  // by rising name
  std::vector<GoldenSequence> sequences;  // one, of an encoder several

  const GoldenSequence& only_sequence() const { return sequences.at(0); }
};

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw core::error("golden", "{}: cannot be read", path.string());
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.flush()) {
    throw core::error("golden", "{}: cannot be written", path.string());
  }
}

inline uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char character : text) {
    hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001B3U;
  }
  return hash;
}

inline uint64_t splitmix64_finalise(uint64_t state) {
  state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9U;
  state = (state ^ (state >> 27)) * 0x94D049BB133111EBU;
  return state ^ (state >> 31);
}

inline std::vector<float> golden_values(const GoldenTensor& tensor) {
  const uint64_t start = fnv1a(tensor.name);
  std::vector<float> values(static_cast<size_t>(tensor.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t drawn = splitmix64_finalise(start + (i + 1) * 0x9E3779B97F4A7C15U) >> 40;
    const double uniform = (static_cast<double>(drawn) - 0x1p23) / 0x1p23;
    // Product and sum are rounded one after the other, which f64 in between makes certain: f32
    // expressions may be contracted to one rounding.
    const auto product = static_cast<float>(static_cast<double>(tensor.scale) * uniform);
    values[i] = static_cast<float>(static_cast<double>(tensor.offset) + product);
  }
  return values;
}

// The folders of kModelsFolder, sorted.
inline std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kModelsFolder)) {
    if (std::filesystem::exists(entry.path() / "golden.json")) {
      names.push_back(entry.path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline uint64_t checksum(const std::vector<GoldenTensor>& tensors) {
  uint64_t total = 0;
  for (const GoldenTensor& tensor : tensors) {
    uint64_t place = 0;
    for (const float value : golden_values(tensor)) {
      total += ++place * std::bit_cast<uint32_t>(value);
    }
  }
  return total;
}

inline std::vector<float> read_floats(const std::filesystem::path& path) {
  static_assert(std::endian::native == std::endian::little);
  const std::string bytes = read_text(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), values.size() * sizeof(float), reinterpret_cast<char*>(values.data()));
  return values;
}

inline void read_sequences(const nlohmann::json& golden, GoldenModel& model) {
  const auto expected =
      read_floats(model.folder / (model.is_encoder ? "hidden.bin" : "logits.bin"));
  const auto entries = golden.value("sequences", nlohmann::json::array({golden}));
  size_t num_rows = 0;
  for (const auto& entry : entries) {
    num_rows += entry.at("rows").size();
  }
  if (num_rows == 0 || expected.size() % num_rows != 0) {
    throw core::error("golden", "{}: {} values for {} rows", model.name, expected.size(), num_rows);
  }
  model.width = static_cast<int64_t>(expected.size() / num_rows);
  auto next = expected.begin();
  for (const auto& entry : entries) {
    GoldenSequence sequence;
    entry.at("tokens").get_to(sequence.tokens);
    sequence.token_types = entry.value("token_types", std::vector<int32_t>());
    entry.at("rows").get_to(sequence.rows);
    const auto last = next + model.width * static_cast<int64_t>(sequence.rows.size());
    sequence.expected.assign(next, last);
    next = last;
    model.sequences.push_back(std::move(sequence));
  }
}

// Throws Error where a file is missing or the weights are not those the results were computed from.
inline GoldenModel read_golden(const std::string& name,
                               const std::filesystem::path& folder = kModelsFolder) {
  GoldenModel model;
  model.name = name;
  model.folder = folder / name;
  const auto golden = core::parse_json(read_text(model.folder / "golden.json"), name);
  for (const auto& entry : golden.at("tensors")) {
    GoldenTensor tensor;
    entry.at("name").get_to(tensor.name);
    entry.at("shape").get_to(tensor.shape);
    entry.at("offset").get_to(tensor.offset);
    entry.at("scale").get_to(tensor.scale);
    model.tensors.push_back(std::move(tensor));
  }
  const auto expected = golden.at("checksum").get<uint64_t>();
  if (const uint64_t actual = checksum(model.tensors); actual != expected) {
    throw core::error("golden", "{}: checksum: expected {}, got {}", name, expected, actual);
  }
  model.is_encoder = std::filesystem::exists(model.folder / "hidden.bin");
  read_sequences(golden, model);
  return model;
}

// The bytes of a tensor as a checkpoint of this type stores them; halves round to nearest even.
inline std::string stored_bytes(const GoldenTensor& tensor, core::TensorType type) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes;
  const auto append = [&](auto value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (const float value : golden_values(tensor)) {
    switch (type) {
      case core::TensorType::kF32:
        append(value);
        break;
      case core::TensorType::kF16:
        append(core::half_from_float(value));
        break;
      case core::TensorType::kBF16:
        append(core::bfloat16_from_float(value));
        break;
      default:
        throw core::error("golden", "type: expected f32, f16 or bf16");
    }
  }
  return bytes;
}

// A safetensors file: length of the header (8 bytes), header (JSON), data without gaps.
inline void write_safetensors(const std::vector<GoldenTensor>& tensors,
                              core::TensorType type,
                              const std::filesystem::path& path) {
  const char* dtype = type == core::TensorType::kF32   ? "F32"
                      : type == core::TensorType::kF16 ? "F16"
                                                       : "BF16";
  nlohmann::ordered_json header;
  header["__metadata__"]["format"] = "pt";
  std::string data;
  for (const GoldenTensor& tensor : tensors) {
    const size_t begin = data.size();
    data += stored_bytes(tensor, type);
    header[tensor.name] = {
        {"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the data starts at a multiple of 8
  const uint64_t length = text.size();
  const std::string prefix(reinterpret_cast<const char*>(&length), sizeof(length));
  write_text(path, prefix + text + data);
}

// Writes config.json and model.safetensors into `folder`, which it creates. `config` is config.json
// or config_published.json: the same model in two spellings.
inline void write_hugging_face_folder(const GoldenModel& model,
                                      const std::filesystem::path& folder,
                                      core::TensorType type = core::TensorType::kF32,
                                      const std::string& config = "config.json") {
  std::filesystem::create_directories(folder);
  // Null values stay: a published configuration has them. A checkpoint of halves says so.
  auto json = nlohmann::ordered_json::parse(read_text(model.folder / config));
  const char* dtype = type == core::TensorType::kF32   ? "float32"
                      : type == core::TensorType::kF16 ? "float16"
                                                       : "bfloat16";
  json[json.contains("dtype") ? "dtype" : "torch_dtype"] = dtype;
  write_text(folder / "config.json", json.dump(2) + "\n");
  write_safetensors(model.tensors, type, folder / "model.safetensors");
}

}  // namespace adze::golden
