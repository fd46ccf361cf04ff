#pragma once
// What reader and writer of safetensors share: numbers and names of the format, and our limits.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/tensor_type.h"

namespace adze::formats {

inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";
inline constexpr std::string_view kSafetensorsFile = "model.safetensors";
inline constexpr std::string_view kSafetensorsIndex = "model.safetensors.index.json";
inline constexpr uint64_t kSafetensorsLengthBytes = 8;  // of the header's length, in front of it
inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;  // of the format itself

// Our limits. A tensor costs 112 bytes at least where the header spends some 50, more while lists
// grow, so that their number needs a bound of its own. The largest models have some 100,000 in all
// and some 2,000 a shard.
inline constexpr uint64_t kSafetensorsMaxTensors = 131072;
inline constexpr uint64_t kSafetensorsMaxMetadata = 65536;
inline constexpr uint64_t kSafetensorsMaxIndexed = 262144;
inline constexpr uint64_t kSafetensorsMaxShards = 4096;
inline constexpr uint64_t kSafetensorsMaxNameBytes = 512;
inline constexpr uint64_t kSafetensorsMaxDimensions = 8;

struct SafetensorsDtype {
  std::string_view name;
  int64_t bytes;                         // of one value
  std::optional<core::TensorType> type;  // none: an integer, listed but not loaded
};

// Dtypes that a model may contain; the format knows others, mostly of fewer than 16 bits. The
// reference writes the first three in this order.
inline constexpr std::array<SafetensorsDtype, 12> kSafetensorsDtypes = {{
    {"F32", 4, core::TensorType::kF32},
    {"BF16", 2, core::TensorType::kBF16},
    {"F16", 2, core::TensorType::kF16},
    {"BOOL", 1, std::nullopt},
    {"U8", 1, std::nullopt},
    {"I8", 1, std::nullopt},
    {"U16", 2, std::nullopt},
    {"I16", 2, std::nullopt},
    {"U32", 4, std::nullopt},
    {"I32", 4, std::nullopt},
    {"U64", 8, std::nullopt},
    {"I64", 8, std::nullopt},
}};

}  // namespace adze::formats
