#pragma once
// What reader and writer of GGUF share: numbers of the file format and our limits.

#include <array>
#include <cstdint>
#include <string_view>

namespace adze::formats {

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr uint32_t kGgufVersion = 3;  // what we write; 2 differs in nothing that we read
inline constexpr uint64_t kGgufDefaultAlignment = 32;
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";

// Tensors are read as 64-bit words at least; beyond 64 KiB (the largest page size in use) padding
// has no purpose.
inline constexpr uint64_t kGgufMinAlignment = 8;
inline constexpr uint64_t kGgufMaxAlignment = 65536;

// Limits of the format itself.
inline constexpr uint64_t kGgufMaxKeyBytes = 65535;
inline constexpr uint64_t kGgufMaxDimensions = 4;

// Our limits. A map node costs 128 bytes where the file spends 14, so that the number of keys needs
// a bound of its own: 65,536 of them take 8 MiB. Real files have 20 to 60 keys and up to some
// 10,000 tensors.
inline constexpr uint64_t kGgufMaxMetadata = 65536;
inline constexpr uint64_t kGgufMaxTensors = 1 << 20;
inline constexpr uint64_t kGgufMaxNameBytes = 255;
inline constexpr uint64_t kGgufMaxStringBytes = (uint64_t{1} << 31) - 1;

enum class GgufType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

inline constexpr std::array<std::string_view, 13> kGgufTypeNames = {"uint8",
                                                                    "int8",
                                                                    "uint16",
                                                                    "int16",
                                                                    "uint32",
                                                                    "int32",
                                                                    "float32",
                                                                    "bool",
                                                                    "string",
                                                                    "array",
                                                                    "uint64",
                                                                    "int64",
                                                                    "float64"};

// The types in the order in which GgufValue and GgufArray list their alternatives.
inline constexpr std::array<GgufType, 13> kGgufAlternatives = {GgufType::kUint8,
                                                               GgufType::kInt8,
                                                               GgufType::kUint16,
                                                               GgufType::kInt16,
                                                               GgufType::kUint32,
                                                               GgufType::kInt32,
                                                               GgufType::kFloat32,
                                                               GgufType::kBool,
                                                               GgufType::kString,
                                                               GgufType::kUint64,
                                                               GgufType::kInt64,
                                                               GgufType::kFloat64,
                                                               GgufType::kArray};

constexpr std::string_view type_name(GgufType type) {
  return kGgufTypeNames[static_cast<uint32_t>(type)];
}

constexpr bool is_legal_alignment(uint64_t alignment) {
  return alignment >= kGgufMinAlignment && alignment <= kGgufMaxAlignment &&
         (alignment & (alignment - 1)) == 0;
}

constexpr uint64_t align_up(uint64_t offset, uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace adze::formats
