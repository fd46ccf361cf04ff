// Every fault that a reader of strangers' files must name, then damage at random.

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "formats/gguf_test_bytes.h"

namespace adze::formats {
namespace {

constexpr uint32_t kF32 = 0;
constexpr uint32_t kUint32 = 4;
constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

// One line that names the file and holds each of `parts`.
void expect_refused(const GgufBytes& bytes, std::initializer_list<std::string_view> parts) {
  try {
    const GgufFile file(bytes.span(), "bad.gguf");
    ADD_FAILURE() << "accepted";
  } catch (const core::Error& failure) {
    const std::string message = failure.what();
    EXPECT_TRUE(message.starts_with("[gguf] bad.gguf: ")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string_view part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
    }
  }
}

GgufBytes one_key(std::string_view key, uint32_t type) {
  GgufBytes bytes;
  bytes.header(0, 1).key(key, type);
  return bytes;
}

// A file with one 2 x 32 f32 tensor whose header `edit` writes.
GgufBytes one_tensor(const std::function<void(GgufBytes&)>& edit) {
  GgufBytes bytes;
  bytes.header(1, 0);
  edit(bytes);
  bytes.pad().zeros(256);
  return bytes;
}

TEST(GgufCorrupt, Header) {
  expect_refused(GgufBytes(), {"header", "magic", "4 more bytes", "0 until the end"});
  expect_refused(GgufBytes().raw("GGU"), {"4 more bytes", "3 until"});
  expect_refused(GgufBytes().raw("GG\nF").zeros(60), {"expected \"GGUF\", got \"GG\\x0aF\""});
  expect_refused(GgufBytes().header(0, 0, 1), {"version", "expected 2 or 3, got 1"});
  expect_refused(GgufBytes().header(0, 0, 4), {"expected 2 or 3, got 4"});
  expect_refused(GgufBytes().header(0, 0, 0), {"expected 2 or 3, got 0"});
  expect_refused(GgufBytes().header(0, 0, 0x03000000), {"version", "big-endian"});
}

TEST(GgufCorrupt, Counts) {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  expect_refused(GgufBytes().header(kHuge, 0), {"tensor count", "0 to 0", "18446744073709551615"});
  expect_refused(GgufBytes().header(0, kHuge), {"metadata count", "0 to 0"});
  expect_refused(GgufBytes().header(3, 0).zeros(66), {"tensor count", "0 to 2, got 3"});
  expect_refused(GgufBytes().header(0, 3).zeros(28), {"metadata count", "0 to 2, got 3"});
  expect_refused(GgufBytes().header(0, 65537).zeros(2 << 20), {"0 to 65536, got 65537"});
  expect_refused(GgufBytes().header((1 << 20) + 1, 0).zeros(size_t{38} << 20),
                 {"tensor count", "0 to 1048576, got 1048577"});
  // Enough bytes at the start, but the metadata uses them up.
  expect_refused(GgufBytes().header(1, 1).key("key", kString).text("twenty-two characters!"),
                 {"tensor count", "0 to 0, got 1"});
}

TEST(GgufCorrupt, Keys) {
  expect_refused(one_key("", kUint32).number<uint32_t>(0),
                 {"metadata 0", "key length", "1 to 65535"});
  GgufBytes long_key;
  long_key.header(0, 1).number<uint64_t>(65536).zeros(70000);
  expect_refused(long_key, {"key length", "1 to 65535, got 65536"});
  GgufBytes beyond;
  beyond.header(0, 1).number<uint64_t>(20).raw("seven b");
  expect_refused(beyond, {"key length", "20 more bytes", "7 until the end"});
  GgufBytes twice;
  twice.header(0, 2).key("same", kUint32).number<uint32_t>(1).key("same", kUint32);
  twice.number<uint32_t>(1);
  expect_refused(twice, {"metadata \"same\"", "each key once", "second"});
}

TEST(GgufCorrupt, Values) {
  expect_refused(one_key("k", 13).zeros(8), {"metadata \"k\"", "value type", "0 to 12, got 13"});
  expect_refused(one_key("k", 7).raw("\x02"), {"bool", "0 or 1", "got 2"});
  expect_refused(one_key("key", kUint32).raw("abc"), {"4 more bytes", "3 until the end"});
  expect_refused(one_key("k", kString).number<uint64_t>(9).raw("short"),
                 {"string length", "9 more bytes", "5 until"});
  expect_refused(one_key("k", kString).number<uint64_t>(uint64_t{1} << 31),
                 {"string length", "0 to 2147483647, got 2147483648"});
  expect_refused(one_key("k", kString).number<int64_t>(-1), {"string length", "0 to 2147483647"});
}

TEST(GgufCorrupt, Arrays) {
  const auto array = [](uint32_t type, uint64_t count) {
    return one_key("k", kArray).number<uint32_t>(type).number<uint64_t>(count);
  };
  expect_refused(array(kArray, 1).zeros(32), {"array element type", "array of arrays"});
  expect_refused(array(99, 1).zeros(32), {"array element type", "0 to 12, got 99"});
  expect_refused(array(kUint32, 3).zeros(8), {"array length", "0 to 2, got 3"});
  expect_refused(array(kString, 3).zeros(16), {"array length", "0 to 2, got 3"});
  // 2^62 elements of 4 bytes wrap to 0 bytes.
  expect_refused(array(kUint32, uint64_t{1} << 62).zeros(8), {"array length", "0 to 2"});
  expect_refused(array(kString, uint64_t{1} << 61).zeros(8), {"array length", "0 to 1"});
  expect_refused(array(7, 2).raw(std::string_view("\1\x80", 2)), {"bool", "0 or 1, got 128"});
  expect_refused(array(kString, 2).number<uint64_t>(100).zeros(40), {"string length", "100 more"});
}

TEST(GgufCorrupt, Alignment) {
  const auto with_alignment = [](uint32_t value) {
    return one_key("general.alignment", kUint32).number<uint32_t>(value);
  };
  for (const uint32_t value : {0U, 1U, 4U, 24U, 33U, 131072U, 0x80000000U, 0xFFFFFFFFU}) {
    expect_refused(with_alignment(value),
                   {"\"general.alignment\"", "power of two, 8 to 65536", std::to_string(value)});
  }
  expect_refused(one_key("general.alignment", kString).text("32"), {"expected uint32, got string"});
  expect_refused(one_key("general.alignment", 10).number<uint64_t>(32), {"uint32, got uint64"});
  EXPECT_NO_THROW(GgufFile(with_alignment(64).span(), "good.gguf"));
}

TEST(GgufCorrupt, TensorHeaders) {
  EXPECT_NO_THROW(GgufFile(one_tensor([](auto& file) {
                             file.tensor("t", {32, 2}, kF32, 0);
                           }).span(),
                           "good.gguf"));
  expect_refused(one_tensor([](auto& file) {
                   file.tensor("", {32, 2}, kF32, 0);
                 }),
                 {"tensor 0", "name length", "1 to 255, got 0"});
  expect_refused(one_tensor([](auto& file) {
                   file.tensor(std::string(256, 'n'), {32, 2}, kF32, 0);
                 }),
                 {"name length", "1 to 255, got 256"});
  expect_refused(one_tensor([](auto& file) { file.tensor("t", {}, kF32, 0); }),
                 {"tensor \"t\"", "number of dimensions", "1 to 4, got 0"});
  expect_refused(one_tensor([](auto& file) {
                   file.tensor("t", {1, 1, 1, 1, 1}, kF32, 0);
                 }),
                 {"number of dimensions", "1 to 4, got 5"});
  expect_refused(one_tensor([](auto& file) {
                   file.tensor("t", {32, 0}, kF32, 0);
                 }),
                 {"dimension", "at least 1, got 0"});
  expect_refused(one_tensor([](auto& file) {
                   file.tensor("t", {-32, 2}, kF32, 0);
                 }),
                 {"dimension", "at least 1, got -32"});
  constexpr int64_t kWide = int64_t{1} << 33;
  expect_refused(one_tensor([](auto& file) {
                   file.tensor("t", {kWide, kWide}, kF32, 0);
                 }),
                 {"product of dimensions below 2^63"});
  expect_refused(one_tensor([](auto& file) { file.tensor("t\nu", {31}, 2, 0); }),
                 {"tensor \"t\\x0au\"", "columns", "a multiple of 32 for type q4_0, got 31"});
}

TEST(GgufCorrupt, TensorTypes) {
  const auto with_type = [](uint32_t type) {
    return one_tensor([type](auto& file) { file.tensor("t", {256}, type, 0); });
  };
  expect_refused(with_type(16),
                 {"tensor \"t\": type iq2_xxs (16) is not supported; supported: f32, f16, q4_0"});
  expect_refused(with_type(34), {"type tq1_0 (34)"});
  expect_refused(with_type(39), {"type mxfp4 (39)"});
  expect_refused(with_type(4), {"type q4_2 (4)"});
  expect_refused(with_type(0xFFFFFFFF), {"type unknown (4294967295)", "bf16"});
}

TEST(GgufCorrupt, TensorData) {
  expect_refused(one_tensor([](auto& file) { file.tensor("t", {32}, kF32, 16); }),
                 {"tensor \"t\"", "offset", "a multiple of the alignment 32, got 16"});
  expect_refused(one_tensor([](auto& file) { file.tensor("t", {32}, kF32, 160); }),
                 {"within the 256 bytes", "offset 160, size 128"});
  expect_refused(one_tensor([](auto& file) { file.tensor("t", {65}, kF32, 0); }),
                 {"offset 0, size 260"});
  constexpr uint64_t kLastMultiple = std::numeric_limits<uint64_t>::max() - 31;
  expect_refused(one_tensor([](auto& file) { file.tensor("t", {8}, kF32, kLastMultiple); }),
                 {"offset 18446744073709551584, size 32"});
  // 2^62 elements of 4 bytes wrap to 0 bytes.
  expect_refused(one_tensor([](auto& file) { file.tensor("t", {int64_t{1} << 62}, kF32, 0); }),
                 {"within the 256 bytes"});
  GgufBytes unpadded;
  unpadded.header(1, 0).tensor("t", {1}, kF32, 0);
  expect_refused(unpadded, {"within the 0 bytes"});
}

TEST(GgufCorrupt, TensorsThatMeet) {
  const auto pair = [](std::string_view first, std::string_view second, uint64_t offset) {
    GgufBytes bytes;
    bytes.header(2, 0).tensor(first, {32}, kF32, 64).tensor(second, {17}, kF32, offset);
    bytes.pad().zeros(512);
    return bytes;
  };
  EXPECT_NO_THROW(GgufFile(pair("t", "u", 192).span(), "good.gguf"));
  expect_refused(pair("t", "t", 192), {"tensor \"t\"", "each name once"});
  expect_refused(pair("t", "u", 160), {"tensor \"u\"", "bytes of its own", "overlap with \"t\""});
  expect_refused(pair("t", "u", 0), {"tensor \"t\"", "overlap with \"u\""});
  expect_refused(pair("t", "u", 64), {"overlap"});
}

TEST(GgufCorrupt, MissingFilesAndFolders) {
  EXPECT_THROW(GgufFile("/nonexistent.gguf"), core::Error);
  EXPECT_THROW(GgufFile("/tmp"), core::Error);
}

GgufBytes sample() {
  GgufBytes bytes;
  bytes.header(3, 5).key("general.name", kString).text("sample");
  bytes.key("general.alignment", kUint32).number<uint32_t>(32);
  bytes.key("list", kArray).number<uint32_t>(kString).number<uint64_t>(3);
  bytes.text("a").text("").text("some longer text, on the heap");
  bytes.key("numbers", kArray).number<uint32_t>(5).number<uint64_t>(2).number<int32_t>(1);
  bytes.number<int32_t>(-1).key("flag", 7).raw("\1");
  bytes.tensor("a", {32, 2}, 2, 0).tensor("b", {8}, kF32, 64).tensor("c", {2, 2, 2, 2}, 1, 96);
  bytes.pad().zeros(128);
  return bytes;
}

// Reads everything that an accepted file refers to, so that a sanitizer sees each byte.
size_t touch(std::span<const std::byte> bytes) {
  try {
    const GgufFile file(bytes, "bad.gguf");
    size_t sum = 0;
    for (const StoredTensor& tensor : file.tensors()) {
      EXPECT_EQ(file.find_tensor(tensor.name), &tensor);
      for (const std::byte byte : tensor.data) {
        sum += static_cast<size_t>(byte);
      }
    }
    return sum + file.metadata().size();
  } catch (const core::Error&) {
    return 0;
  }
}

TEST(GgufCorrupt, TruncationAnywhereIsAnError) {
  const std::string whole = sample().string();
  EXPECT_NE(touch(std::as_bytes(std::span(whole))), 0);
  for (size_t size = 0; size < whole.size(); ++size) {
    // A copy of its own, so that a read beyond the end is one beyond an allocation.
    const std::vector<char> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(touch(std::as_bytes(std::span(cut))), 0) << size;
  }
}

TEST(GgufCorrupt, FlippedBytesNeverCrash) {
  const std::string whole = sample().string();
  core::Rng rng(15);
  for (int round = 0; round < 20000; ++round) {
    std::vector<char> damaged(whole.begin(), whole.end());
    const uint64_t flips = 1 + rng.next_uint64() % 4;
    for (uint64_t flip = 0; flip < flips; ++flip) {
      damaged[rng.next_uint64() % damaged.size()] = static_cast<char>(rng.next_uint64());
    }
    touch(std::as_bytes(std::span(damaged)));
  }
}

}  // namespace
}  // namespace adze::formats
