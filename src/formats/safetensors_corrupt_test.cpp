// Every fault that a reader of strangers' files must name, then damage at random.

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "core/rng.h"
#include "formats/safetensors_header.h"
#include "formats/safetensors_index.h"

namespace adze::formats {
namespace {

std::string length_of(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::string file_of(std::string_view header, size_t data_bytes) {
  return length_of(header.size()) + std::string(header) + std::string(data_bytes, '\0');
}

SafetensorsContents read(const std::string& bytes) {
  return read_safetensors(std::as_bytes(std::span(bytes)), "bad.safetensors");
}

void expect_error(const std::function<void()>& action,
                  std::string_view start,
                  std::initializer_list<std::string_view> parts) {
  try {
    action();
    ADD_FAILURE() << "accepted: " << *parts.begin();
  } catch (const core::Error& failure) {
    const std::string message = failure.what();
    EXPECT_TRUE(message.starts_with(start)) << message;
    EXPECT_LT(message.size(), 600);
    for (const char byte : message) {
      ASSERT_TRUE(byte >= ' ' && byte <= '~') << message;
    }
    for (const std::string_view part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
    }
  }
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string_view> parts) {
  expect_error([&] { read(bytes); }, "[safetensors] bad.safetensors: ", parts);
}

void expect_header_refused(std::string_view header, std::initializer_list<std::string_view> parts) {
  expect_refused(file_of(header, 24), parts);
}

// A header with one tensor "t", whose entry has these fields.
std::string one(std::string_view fields) {
  return fmt::format(R"({{"t":{{{}}}}})", fields);
}

TEST(SafetensorsCorrupt, HeaderLength) {
  expect_refused("", {"header length", "8 bytes", "0 until the end of file"});
  expect_refused("seven b", {"7 until the end of file"});
  expect_refused(length_of(3) + "{}", {"header length", "0 to 2, got 3"});
  expect_refused(length_of(std::numeric_limits<uint64_t>::max()) + "{}",
                 {"0 to 2, got 18446744073709551615"});
  expect_refused(length_of(std::numeric_limits<uint64_t>::max() - 7) + "{}", {"header length"});
  expect_error([] { read(file_of("{" + std::string(2 << 20, ' ') + "}", 0)); },
               "[json] bad.safetensors: ",
               {"at most 1048576 bytes"});
  expect_refused(length_of(100'000'001) + std::string(100'000'002, ' '),
                 {"0 to 100000000, got 100000001"});
  expect_refused(length_of(0), {"\"{\" as first byte"});
  EXPECT_NO_THROW(read(file_of("{}", 0)));
  EXPECT_NO_THROW(read(file_of("{}   ", 0)));
}

TEST(SafetensorsCorrupt, Json) {
  expect_header_refused(" {}", {"\"{\" as first byte, got \" \""});
  expect_header_refused("\xef\xbb\xbf{}", {"first byte"});
  expect_header_refused("[]", {"first byte"});
  expect_header_refused("{", {"header", "no JSON"});
  expect_header_refused("{}{}", {"the end of the header", "no JSON"});
  expect_header_refused(std::string_view("{\0}", 3), {"no JSON"});
  expect_header_refused("{\"t\":1}", {"header, \"t\"", "an object, got 1"});
  expect_header_refused("{\"t\":null}", {"got null"});
  expect_header_refused("{\"t\":true}", {"got true"});
  expect_header_refused("{\"t\":-1}", {"got -1"});
  expect_header_refused("{\"t\":1.5}", {"got 1.5"});
  expect_header_refused("{\"t\":1e999}", {"no JSON"});
  expect_header_refused("{\"t\":\"x\"}", {"got string \"x\""});
  expect_header_refused("{\"t\":[]}", {"got a list"});
  expect_header_refused("{\"\xff\":{}}", {"no JSON"});
  expect_header_refused("{\"" + std::string(1000, 'x'), {"no JSON"});
  expect_header_refused("{\"t\":{\"shape\":" + std::string(1000, '['), {"got a list"});
  expect_header_refused(one(R"("dtype":{})"), {"a string as dtype, got an object"});
}

TEST(SafetensorsCorrupt, Entries) {
  const auto entry = [](std::string_view fields) { return one(fields); };
  EXPECT_NO_THROW(read(file_of(entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])"), 24)));
  EXPECT_NO_THROW(read(file_of(entry(R"("data_offsets":[0,24],"shape":[6],"dtype":"F32")"), 24)));
  constexpr std::string_view kOnce = "dtype, shape and data_offsets once each";
  expect_header_refused(entry(""), {"tensor \"t\"", kOnce, "got fewer"});
  expect_header_refused(entry(R"("dtype":"F32","shape":[6])"), {kOnce, "got fewer"});
  expect_header_refused(entry(R"("dtype":"F32","data_offsets":[0,24])"), {kOnce, "fewer"});
  expect_header_refused(entry(R"("shape":[6],"data_offsets":[0,24])"), {kOnce, "fewer"});
  expect_header_refused(entry(R"("dtype":"F32","dtype":"F16")"), {kOnce, "got key \"dtype\""});
  expect_header_refused(entry(R"("shape":[],"shape":[6])"), {kOnce, "got key \"shape\""});
  expect_header_refused(entry(R"("data_offsets":[0,24],"data_offsets":[0,24])"),
                        {kOnce, "got key \"data_offsets\""});
  expect_header_refused(entry(R"("color":1)"), {kOnce, "got key \"color\""});
  expect_header_refused(one(R"("dtype":"F32","shape":[6],"data_offsets":[0,24]},"t":{)"),
                        {"tensor \"t\""});
}

TEST(SafetensorsCorrupt, Dtypes) {
  for (const std::string_view dtype : {"F64", "F8_E4M3", "F4", "f32", "", "C64", "F32 "}) {
    expect_header_refused(
        one(fmt::format(R"("dtype":"{}","shape":[3],"data_offsets":[0,24])", dtype)),
        {"tensor \"t\"",
         "one of the dtypes F32, BF16, F16, BOOL",
         "I64, got \"" + std::string(dtype)});
  }
  expect_header_refused(one(R"("dtype":32)"), {"a string as dtype, got 32"});
  const auto contents =
      read(file_of(one(R"("dtype":"I64","shape":[3],"data_offsets":[0,24])"), 24));
  EXPECT_TRUE(contents.tensors.empty());
  EXPECT_EQ(contents.skipped.at(0).dtype, "I64");
  expect_header_refused(one(R"("dtype":"I32","shape":[3],"data_offsets":[0,24])"),
                        {"as many bytes as shape [3] of I32"});
}

TEST(SafetensorsCorrupt, Shapes) {
  const auto shape = [](std::string_view list) {
    return one(fmt::format(R"("dtype":"F32","data_offsets":[0,24],"shape":{})", list));
  };
  constexpr std::string_view kDimensions = "up to 8 dimensions from 0 to 2^63 - 1 as shape";
  expect_header_refused(shape("6"), {"a list as shape, got 6"});
  expect_header_refused(shape("[-6]"), {kDimensions, "got -6"});
  expect_header_refused(shape("[6.0]"), {kDimensions, "got 6"});
  expect_header_refused(shape("[\"6\"]"), {kDimensions, "got string \"6\""});
  expect_header_refused(shape("[[6]]"), {kDimensions, "got a list"});
  expect_header_refused(shape("[9223372036854775808]"), {kDimensions, "9223372036854775808"});
  expect_header_refused(shape("[18446744073709551616]"), {kDimensions, "got 1.8"});
  expect_header_refused(shape("[1,1,1,1,1,1,1,1,6]"), {kDimensions, "got 6"});
  expect_header_refused(shape("[7]"), {"as many bytes as shape [7] of F32", "[0, 24]"});
  expect_header_refused(shape("[]"), {"shape [] of F32"});
  expect_header_refused(shape("[0]"), {"shape [0] of F32"});
  // 2^62 values of 4 bytes wrap to 0 bytes, 2^32 x 2^32 to 0 values.
  expect_header_refused(shape("[4611686018427387904]"), {"shape [4611686018427387904] of F32"});
  expect_refused(file_of(R"({"t":{"dtype":"F32","data_offsets":[0,0],"shape":)"
                         R"([4294967296,4294967296]}})",
                         0),
                 {"shape [4294967296, 4294967296] of F32"});
}

TEST(SafetensorsCorrupt, Offsets) {
  const auto offsets = [](std::string_view list) {
    return one(fmt::format(R"("dtype":"F32","shape":[6],"data_offsets":{})", list));
  };
  constexpr std::string_view kTwo = "a list of two integers from 0 as data_offsets";
  expect_header_refused(offsets("24"), {kTwo, "got 24"});
  expect_header_refused(offsets("[]"), {kTwo, "got 0"});
  expect_header_refused(offsets("[24]"), {kTwo, "got 1"});
  expect_header_refused(offsets("[0,24,24]"), {kTwo, "got 24"});
  expect_header_refused(offsets("[-1,24]"), {kTwo, "got -1"});
  expect_header_refused(offsets("[0,2.5]"), {kTwo, "got 2.5"});
  expect_header_refused(offsets("[0,null]"), {kTwo, "got null"});
  expect_header_refused(offsets("[24,0]"), {"in order within the 24 bytes", "[24, 0]"});
  expect_header_refused(offsets("[1,25]"), {"in order within the 24 bytes", "[1, 25]"});
  expect_header_refused(offsets("[18446744073709551608,16]"), {"in order within"});
  expect_header_refused(offsets("[0,23]"), {"as many bytes as shape [6] of F32"});
  expect_refused(file_of(offsets("[8,32]"), 32), {"data_offsets from 0", "[8, 32]"});
  expect_refused(file_of(offsets("[0,24]"), 25), {"data: expected 24 bytes", "got 25"});
  expect_refused(file_of("{}", 1), {"data: expected 0 bytes", "got 1"});
}

TEST(SafetensorsCorrupt, TensorsThatMeet) {
  const auto pair = [](std::string_view name, int begin, int end) {
    return fmt::format(R"({{"t":{{"dtype":"F32","shape":[2],"data_offsets":[8,16]}},)"
                       R"("{}":{{"dtype":"F16","shape":[{}],"data_offsets":[{},{}]}}}})",
                       name,
                       (end - begin) / 2,
                       begin,
                       end);
  };
  EXPECT_EQ(read(file_of(pair("u", 0, 8), 16)).tensors.at(0).name, "u");
  expect_refused(file_of(pair("t", 0, 8), 16), {"tensor \"t\"", "each name once"});
  expect_refused(file_of(pair("u", 0, 10), 16),
                 {"tensor \"t\"", "data_offsets from 10", "[8, 16]"});
  expect_refused(file_of(pair("u", 0, 6), 16), {"tensor \"t\"", "data_offsets from 6"});
  expect_refused(file_of(pair("u", 8, 16), 16), {"data_offsets from 0"});
  expect_refused(file_of(pair("u", 10, 14), 16), {"data_offsets from 0"});
}

TEST(SafetensorsCorrupt, Names) {
  const auto named = [](std::string_view name) {
    return fmt::format(R"({{"{}":{{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}}})", name);
  };
  EXPECT_NO_THROW(read(file_of(named(std::string(512, 'n')), 24)));
  expect_header_refused(named(""), {"a name of 1 to 512 bytes, got 0"});
  expect_header_refused(named(std::string(513, 'n')), {"a name of 1 to 512 bytes, got 513"});
  expect_header_refused(named("a\\nb\\u001b") + "x", {"the end of the header"});
  std::string many = "{";
  for (int index = 0; index <= 131072; ++index) {
    many += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
                        index == 0 ? "" : ",",
                        index);
  }
  expect_refused(file_of(many + "}", 0), {"header", "up to 131072 tensors, got more"});
}

TEST(SafetensorsCorrupt, Metadata) {
  EXPECT_EQ(read(file_of(R"({"__metadata__":{"a":"b"}})", 0)).metadata.at("a"), "b");
  expect_header_refused(R"({"__metadata__":[]})", {"header, \"__metadata__\"", "an object"});
  expect_header_refused(R"({"__metadata__":{"a":1}})",
                        {"__metadata__", "a string as value, got 1"});
  expect_header_refused(R"({"__metadata__":{"a":{}}})", {"a string as value, got an object"});
  expect_header_refused(R"({"__metadata__":{"a":"","a":""}})",
                        {"each key once, got a second \"a\""});
  expect_header_refused(R"({"__metadata__":{},"__metadata__":{}})", {"a second __metadata__"});
  std::string many = "{\"__metadata__\":{\"x\":\"\"";
  for (int index = 0; index < 65536; ++index) {
    many += fmt::format(",\"{}\":\"\"", index);
  }
  expect_header_refused(many + "}}", {"__metadata__", "up to 65536 keys, got more"});
}

// Whole files that are short of a byte, or have wrong ones.

std::string sample() {
  return file_of(R"({"__metadata__":{"format":"pt"},)"
                 R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                 R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},)"
                 R"("c":{"dtype":"I64","shape":[1],"data_offsets":[22,30]}}  )",
                 30);
}

// Reads everything that an accepted file refers to, so that a sanitizer sees each byte.
size_t touch(std::span<const std::byte> bytes) {
  try {
    const auto contents = read_safetensors(bytes, "bad.safetensors");
    size_t sum = 1;
    for (const StoredTensor& tensor : contents.tensors) {
      for (const std::byte byte : tensor.data) {
        sum += static_cast<size_t>(byte);
      }
    }
    return sum;
  } catch (const core::Error&) {
    return 0;
  }
}

TEST(SafetensorsCorrupt, TruncationAnywhereIsAnError) {
  const std::string whole = sample();
  EXPECT_NE(touch(std::as_bytes(std::span(whole))), 0);
  for (size_t size = 0; size < whole.size(); ++size) {
    // A copy of its own, so that a read beyond the end is one beyond an allocation.
    const std::vector<char> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(touch(std::as_bytes(std::span(cut))), 0) << size;
  }
}

TEST(SafetensorsCorrupt, ChangedBytesNeverCrash) {
  const std::string whole = sample();
  constexpr std::string_view kSyntax = "{}[]\",:0123456789-.eE \\u";
  core::Rng rng(17);
  for (int round = 0; round < 20000; ++round) {
    std::vector<char> damaged(whole.begin(), whole.end());
    const uint64_t changes = 1 + rng.next_uint64() % 4;
    for (uint64_t change = 0; change < changes; ++change) {
      const uint64_t random = rng.next_uint64();
      damaged[rng.next_uint64() % damaged.size()] = random % 2 == 0
                                                        ? static_cast<char>(random >> 8)
                                                        : kSyntax[(random >> 8) % kSyntax.size()];
    }
    touch(std::as_bytes(std::span(damaged)));
  }
}

void expect_index_refused(std::string_view text, std::initializer_list<std::string_view> parts) {
  expect_error([&] { read_safetensors_index(text, "i.json"); }, "[safetensors] i.json: ", parts);
}

TEST(SafetensorsCorrupt, Index) {
  const auto index = read_safetensors_index(
      R"({"metadata":{"total_size":1.5,"x":[null,true,{"weight_map":"y"},-1]},)"
      R"("weight_map":{"b":"2.safetensors","c":"1.safetensors","a":"2.safetensors"},"z":"z"})",
      "i.json");
  EXPECT_EQ(index, (SafetensorsIndex{{"1.safetensors", {"c"}}, {"2.safetensors", {"a", "b"}}}));
  constexpr std::string_view kObject = "a JSON object with one weight_map";
  for (const std::string_view text : {"", "1", "null", "\"x\"", "[]", "true", "-2", "0.5", "{"}) {
    expect_index_refused(text, {kObject});
  }
  expect_index_refused("{}", {"a weight_map, got none"});
  expect_index_refused(R"({"weight_map":{},"weight_map":{}})", {kObject, "a second weight_map"});
  expect_index_refused(R"({"weight_map":[]})", {"weight_map", "NAME.safetensors", "a list"});
  expect_index_refused(R"({"weight_map":"a.safetensors"})", {"got string \"a.safetensors\""});
  expect_index_refused(R"({"weight_map":{"t":1}})", {"weight_map, \"t\"", "got 1"});
  expect_index_refused(R"({"weight_map":{"t":{}}})", {"got an object"});
  expect_index_refused(R"({"weight_map":{"t":null}})", {"got null"});
  expect_index_refused(R"({"weight_map":{"":"a.safetensors"}})", {"1 to 512 bytes, got 0"});
  expect_index_refused(R"({"weight_map":{"t":"a.safetensors","t":"a.safetensors"}})",
                       {"weight_map, \"t\"", "each name once"});
  expect_index_refused("{\"x\":" + std::string(100, '['), {"64 levels"});
  expect_index_refused(std::string(1000, '['), {kObject});
  std::string files = "{\"weight_map\":{\"x\":\"x.safetensors\"";
  for (int number = 0; number < 4096; ++number) {
    files += fmt::format(",\"{}\":\"{}.safetensors\"", number, number);
  }
  expect_index_refused(files + "}}", {"up to 4096 files, got more"});
  std::string names = "{\"weight_map\":{\"x\":\"x.safetensors\"";
  for (int number = 0; number < 262144; ++number) {
    names += fmt::format(",\"{}\":\"x.safetensors\"", number);
  }
  expect_index_refused(names + "}}", {"up to 262144 tensors, got more"});
}

TEST(SafetensorsCorrupt, IndexNamesFilesOfItsFolderOnly) {
  for (const std::string_view name : {"../m.safetensors",
                                      "/m.safetensors",
                                      "a/m.safetensors",
                                      "a\\\\m.safetensors",
                                      "..",
                                      ".safetensors",
                                      ".m.safetensors",
                                      "",
                                      "m.bin",
                                      "m.safetensors/",
                                      "m.safetensors\\u0000.safetensors"}) {
    expect_index_refused(fmt::format(R"({{"weight_map":{{"t":"{}"}}}})", name),
                         {"weight_map, \"t\"", "NAME.safetensors without folders, got \""});
  }
  expect_index_refused(
      fmt::format(R"({{"weight_map":{{"t":"{}.safetensors"}}}})", std::string(244, 'x')),
      {"without folders"});
}

// Folders: what the files say of one another.

class SafetensorsBadFolder : public testing::Test {
 protected:
  SafetensorsBadFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("adze-bad-safetensors-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~SafetensorsBadFolder() override { std::filesystem::remove_all(path_); }

  void write(const std::string& name, std::string_view bytes) {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  void expect_refused(std::initializer_list<std::string_view> parts) {
    expect_error([&] { SafetensorsFolder{path_}; }, "[", parts);
  }

  std::filesystem::path path_;
};

TEST_F(SafetensorsBadFolder, FilesThatAreMissing) {
  expect_refused({"expected model.safetensors or model.safetensors.index.json", "neither"});
  EXPECT_THROW(SafetensorsFolder("/nonexistent.safetensors"), core::Error);
  EXPECT_THROW(SafetensorsFolder("/dev/null"), core::Error);
  write("model.safetensors.index.json", R"({"weight_map":{"t":"m.safetensors"}})");
  expect_refused({"m.safetensors", "No such file"});
}

TEST_F(SafetensorsBadFolder, ShardsThatDisagree) {
  const std::string shard = file_of(one(R"("dtype":"F32","shape":[6],"data_offsets":[0,24])"), 24);
  const std::string skipped =
      file_of(R"({"t":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}})", 0);
  write("1.safetensors", shard);
  write("model.safetensors.index.json", R"({"weight_map":{"t":"1.safetensors"}})");
  EXPECT_EQ(SafetensorsFolder(path_).tensors().size(), 1);
  write("model.safetensors.index.json", R"({"weight_map":{"u":"1.safetensors"}})");
  expect_refused({"weight_map, \"u\"", "a file that has the tensor, got \"1.safetensors\""});
  write("model.safetensors.index.json",
        R"({"weight_map":{"t":"1.safetensors","t":"2.safetensors"}})");
  for (const std::string& second : {shard, skipped}) {
    write("2.safetensors", second);
    expect_refused({"tensor \"t\"", "each name once, got it in two shards"});
  }
  write("2.safetensors", "damaged");
  expect_refused({"2.safetensors: header length"});
  write("model.safetensors", shard);  // comes before an index
  EXPECT_EQ(SafetensorsFolder(path_).tensors().size(), 1);
}

}  // namespace
}  // namespace adze::formats
