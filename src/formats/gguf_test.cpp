#include "formats/gguf.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/check.h"
#include "core/error.h"
#include "formats/gguf_test_bytes.h"

namespace adze::formats {
namespace {

using core::TensorType;
using Metadata = std::vector<std::pair<std::string, GgufValue>>;

// Removed when the test ends, whatever happened.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              ("adze-" + std::to_string(::getpid()) + "-" + name)) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string contents() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path path_;
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const core::Error& failure) {
    return failure.what();
  }
  return "no error";
}

Metadata every_type() {
  return {
      {"u8", uint8_t{200}},
      {"i8", int8_t{-100}},
      {"u16", uint16_t{60000}},
      {"i16", int16_t{-30000}},
      {"u32", uint32_t{4000000000}},
      {"i32", int32_t{-2000000000}},
      {"f32", 0.15625F},
      {"bool", true},
      {"string", std::string("text\0with zero", 14)},
      {"u64", std::numeric_limits<uint64_t>::max()},
      {"i64", std::numeric_limits<int64_t>::min()},
      {"f64", 1e-300},
      {"bools", GgufArray{std::vector<bool>{true, false, true}}},
      {"strings", GgufArray{std::vector<std::string>{"", "one", "two words"}}},
      {"bytes", GgufArray{std::vector<uint8_t>{0, 255}}},
      {"integers", GgufArray{std::vector<int32_t>{-1, 0, 1}}},
      {"wide", GgufArray{std::vector<uint64_t>{1, std::numeric_limits<uint64_t>::max()}}},
      {"doubles", GgufArray{std::vector<double>{0.5}}},
      {"empty", GgufArray{std::vector<float>{}}},
  };
}

bool same_value(const GgufValue& left, const GgufValue& right) {
  if (const auto* array = std::get_if<GgufArray>(&left)) {
    return array->values == std::get<GgufArray>(right).values;
  }
  return std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, GgufArray>) {
          return false;
        } else {
          return held == std::get<Held>(right);
        }
      },
      left);
}

TEST(Gguf, WrittenFilesReadBackUnchanged) {
  const TemporaryFile file("round-trip.gguf");
  const std::vector<float> floats = {1, 2, 3, 4, 5, 6};
  const std::vector<std::byte> blocks(3 * 2 * 20, std::byte{0x5A});
  write_gguf(file.path(),
             every_type(),
             {copy_of({"floats", TensorType::kF32, {2, 3}, std::as_bytes(std::span(floats))}),
              copy_of({"blocks", TensorType::kQ4_1, {3, 2, 32}, blocks})});

  const GgufFile read(file.path());
  const Metadata expected = every_type();
  ASSERT_EQ(read.metadata().size(), expected.size());
  for (const auto& [key, value] : expected) {
    ASSERT_TRUE(read.metadata().contains(key)) << key;
    ASSERT_EQ(read.metadata().at(key).index(), value.index()) << key;
    EXPECT_TRUE(same_value(value, read.metadata().at(key))) << key;
  }
  ASSERT_EQ(read.tensors().size(), 2);
  const StoredTensor* tensor = read.find_tensor("floats");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->type, TensorType::kF32);
  EXPECT_EQ(tensor->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(std::ranges::equal(tensor->data, std::as_bytes(std::span(floats))));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor->data.data()) % 32, 0);
  EXPECT_EQ(read.find_tensor("blocks")->shape, (std::vector<int64_t>{3, 2, 32}));
  EXPECT_TRUE(std::ranges::equal(read.find_tensor("blocks")->data, blocks));
  EXPECT_EQ(read.find_tensor("missing"), nullptr);
}

TEST(Gguf, WriterLaysBytesOutAsDocumented) {
  const TemporaryFile file("layout.gguf");
  const std::vector<float> values = {1, 2};
  write_gguf(file.path(),
             {{"key", uint32_t{7}}, {"list", GgufArray{std::vector<std::string>{"a"}}}},
             {copy_of({"t", TensorType::kF32, {1, 2}, std::as_bytes(std::span(values))}),
              copy_of({"u", TensorType::kF32, {2}, std::as_bytes(std::span(values))})});
  GgufBytes expected;
  expected.header(2, 2).key("key", 4).number<uint32_t>(7);
  expected.key("list", 9).number<uint32_t>(8).number<uint64_t>(1).text("a");
  expected.tensor("t", {2, 1}, 0, 0).tensor("u", {2}, 0, 32).pad();
  expected.number<float>(1).number<float>(2).pad().number<float>(1).number<float>(2).pad();
  EXPECT_EQ(file.contents(), expected.string());
}

TEST(Gguf, WriterKeepsAGivenAlignment) {
  const TemporaryFile file("alignment.gguf");
  const std::vector<float> values = {1, 2};
  const auto data = std::as_bytes(std::span(values));
  write_gguf(
      file.path(),
      {{"general.alignment", uint32_t{256}}},
      {copy_of({"t", TensorType::kF32, {2}, data}), copy_of({"u", TensorType::kF32, {2}, data})});
  const GgufFile read(file.path());
  const auto& tensors = read.tensors();
  EXPECT_EQ(tensors[1].data.data() - tensors[0].data.data(), 256);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensors[0].data.data()) % 256, 0);
}

TEST(Gguf, WriterRefusesWhatTheReaderWould) {
  const TemporaryFile file("refused.gguf");
  const std::vector<float> values = {1, 2};
  const auto data = std::as_bytes(std::span(values));
  const auto refused = [&](const Metadata& metadata, const std::vector<StoredTensor>& tensors) {
    std::vector<TensorOutput> outputs;
    std::ranges::transform(tensors, std::back_inserter(outputs), copy_of);
    EXPECT_THROW(write_gguf(file.path(), metadata, outputs), core::CheckFailure);
    EXPECT_FALSE(std::filesystem::exists(file.path()));
  };
  refused({{"", true}}, {});
  refused({{"a", true}, {"a", false}}, {});
  refused({{"general.alignment", uint32_t{24}}}, {});
  refused({{"general.alignment", uint64_t{32}}}, {});
  refused({}, {{"", TensorType::kF32, {2}, data}});
  refused({}, {{"t", TensorType::kF32, {}, data}});
  refused({}, {{"t", TensorType::kF32, {1, 1, 1, 1, 2}, data}});
  refused({}, {{"t", TensorType::kF32, {3}, data}});
  refused({}, {{"t", TensorType::kF32, {0}, {}}});
  refused({}, {{"t", TensorType::kQ4_0, {16}, data}});
  refused({}, {{"t", TensorType::kF32, {2}, data}, {"t", TensorType::kF32, {2}, data}});
  EXPECT_THROW(write_gguf("/nonexistent-folder/file.gguf", {}, {}), core::Error);
}

TEST(Gguf, ReadsVersionTwoAndFilesWithoutTensors) {
  GgufBytes bytes;
  bytes.header(0, 1, 2).key("general.name", 8).text("tiny");
  EXPECT_EQ(GgufFile(bytes.span(), "two.gguf").find_string("general.name"), "tiny");
}

TEST(Gguf, LookupsConvertWhatFits) {
  const TemporaryFile path("lookup.gguf");
  write_gguf(path.path(), every_type(), {});
  const GgufFile file(path.path());
  EXPECT_EQ(file.find_integer("u8"), 200);
  EXPECT_EQ(file.find_integer("i32"), -2000000000);
  EXPECT_EQ(file.find_integer("i64"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(file.find_number("f32"), 0.15625);
  EXPECT_EQ(file.find_number("f64"), 1e-300);
  EXPECT_EQ(file.find_number("u16"), 60000);
  EXPECT_EQ(file.find_bool("bool"), true);
  EXPECT_EQ(file.find_string("string"), std::string("text\0with zero", 14));
  EXPECT_EQ(file.find_strings("strings")->at(2), "two words");
  EXPECT_EQ(file.find_integers("bytes"), (std::vector<int64_t>{0, 255}));
  EXPECT_EQ(file.find_integers("integers"), (std::vector<int64_t>{-1, 0, 1}));
  EXPECT_EQ(file.find_integer("missing"), std::nullopt);
  EXPECT_EQ(file.find_number("missing"), std::nullopt);
  EXPECT_EQ(file.find_bool("missing"), std::nullopt);
  EXPECT_EQ(file.find_string("missing"), std::nullopt);
  EXPECT_EQ(file.find_strings("missing"), nullptr);
  EXPECT_EQ(file.find_integers("missing"), std::nullopt);
}

TEST(Gguf, LookupsRefuseAnotherTypeAndSayWhich) {
  const TemporaryFile path("wrong-type.gguf");
  write_gguf(path.path(), every_type(), {});
  const GgufFile file(path.path());
  EXPECT_EQ(message_of([&] { file.find_integer("bool"); }),
            "[gguf] " + path.path().string() +
                ": metadata \"bool\": expected an integer below 2^63, got bool true");
  EXPECT_THROW(file.find_integer("u64"), core::Error);
  EXPECT_THROW(file.find_integer("f32"), core::Error);
  EXPECT_THROW(file.find_number("string"), core::Error);
  EXPECT_THROW(file.find_bool("u8"), core::Error);
  EXPECT_THROW(file.find_string("bytes"), core::Error);
  EXPECT_THROW(file.find_strings("string"), core::Error);
  EXPECT_THROW(file.find_strings("bytes"), core::Error);
  EXPECT_THROW(file.find_integers("wide"), core::Error);
  EXPECT_THROW(file.find_integers("bools"), core::Error);
  EXPECT_THROW(file.find_integers("doubles"), core::Error);
  const std::string message = message_of([&] { file.find_integers("strings"); });
  EXPECT_NE(message.find("got an array of 3 strings"), std::string::npos) << message;
}

TEST(Gguf, ReadsAFileOfAnotherWriter) {  // golden/make_golden.py
  const GgufFile file("src/formats/golden/quantization.gguf");
  EXPECT_EQ(file.find_string("general.architecture"), "golden");
  EXPECT_EQ(file.find_integer("scalar.uint8"), 200);
  EXPECT_EQ(file.find_integer("scalar.int8"), -100);
  EXPECT_EQ(file.find_integer("scalar.uint16"), 60000);
  EXPECT_EQ(file.find_integer("scalar.int16"), -30000);
  EXPECT_EQ(file.find_integer("scalar.uint32"), 4000000000);
  EXPECT_EQ(file.find_integer("scalar.int32"), -2000000000);
  EXPECT_EQ(file.find_number("scalar.float32"), 0.15625);
  EXPECT_EQ(file.find_bool("scalar.bool"), true);
  EXPECT_EQ(file.find_string("scalar.string"), "na\u00efve");
  EXPECT_EQ(std::get<uint64_t>(file.metadata().at("scalar.uint64")), uint64_t{1} << 63);
  EXPECT_EQ(file.find_integer("scalar.int64"), -(int64_t{1} << 62));
  EXPECT_EQ(file.find_number("scalar.float64"), 1e-300);
  EXPECT_EQ(file.find_integers("array.uint32"), (std::vector<int64_t>{4000000000, 7}));
  EXPECT_EQ(std::get<GgufArray>(file.metadata().at("array.bool")).values,
            GgufArray{(std::vector<bool>{true, false})}.values);
  EXPECT_EQ(*file.find_strings("array.string"), (std::vector<std::string>{"na\u00efve", ""}));
  EXPECT_EQ(file.find_tensor("q6_k.blocks")->shape, (std::vector<int64_t>{1, 1024}));
}

}  // namespace
}  // namespace adze::formats
