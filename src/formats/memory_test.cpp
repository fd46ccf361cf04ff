// What a reader allocates is bounded by the file: 4 x its size + 64 MiB. The operators below count
// for the whole test program; they are no slower than the ones they replace.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>

#include <gtest/gtest.h>
#include <malloc.h>

#include "core/error.h"
#include "core/json.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "formats/gguf_test_bytes.h"
#include "formats/safetensors_header.h"
#include "formats/safetensors_index.h"

namespace {

std::atomic<size_t> live_bytes = 0;
std::atomic<size_t> peak_bytes = 0;

void* counted(void* block) {
  if (block != nullptr) {
    const size_t size = ::malloc_usable_size(block);
    const size_t now = live_bytes.fetch_add(size) + size;
    if (now > peak_bytes.load()) {
      peak_bytes.store(now);
    }
  }
  return block;
}

void release(void* block) {
  if (block != nullptr) {
    live_bytes.fetch_sub(::malloc_usable_size(block));
    std::free(block);
  }
}

}  // namespace

void* operator new(size_t size) {
  void* block = counted(std::malloc(size));
  if (block == nullptr) {
    throw std::bad_alloc();
  }
  return block;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return counted(std::malloc(size));
}
void operator delete(void* block) noexcept {
  release(block);
}
void operator delete(void* block, size_t) noexcept {
  release(block);
}
void operator delete(void* block, const std::nothrow_t&) noexcept {
  release(block);
}

namespace adze::formats {
namespace {

constexpr size_t kSlackBytes = size_t{64} << 20;

// Bytes held at the worst moment of reading, whether the file is accepted or not.
size_t peak_of(const std::function<void()>& reading, bool accepted) {
  const size_t before = live_bytes.load();
  peak_bytes.store(before);
  try {
    reading();
    EXPECT_TRUE(accepted);
  } catch (const core::Error& failure) {
    EXPECT_FALSE(accepted) << failure.what();
  }
  return peak_bytes.load() - before;
}

size_t peak_of(const GgufBytes& bytes, bool accepted) {
  return peak_of([&] { GgufFile(bytes.span(), "memory.gguf"); }, accepted);
}

TEST(GgufMemory, EmptyStringsCostFourTimesTheirBytes) {
  constexpr size_t kCount = 4 << 20;
  GgufBytes bytes;
  bytes.header(0, 1).key("k", 9).number<uint32_t>(8).number<uint64_t>(kCount).zeros(8 * kCount);
  const size_t file_bytes = bytes.string().size();
  EXPECT_LE(peak_of(bytes, true), 4 * file_bytes + (1 << 20));
}

TEST(GgufMemory, AFalseCountAllocatesNoMoreThanATrueOne) {
  constexpr size_t kCount = 1 << 20;
  GgufBytes bytes;
  bytes.header(0, 1).key("k", 9).number<uint32_t>(8).number<uint64_t>(kCount);
  bytes.zeros(8).number<uint64_t>(uint64_t{1} << 30).zeros(8 * (kCount - 2));
  EXPECT_LE(peak_of(bytes, false), 4 * bytes.string().size() + (1 << 20));
}

TEST(GgufMemory, ShortStringsOnTheHeap) {
  constexpr size_t kCount = 1 << 20;
  GgufBytes bytes;
  bytes.header(0, 1).key("k", 9).number<uint32_t>(8).number<uint64_t>(kCount);
  for (size_t index = 0; index < kCount; ++index) {
    bytes.text("sixteen bytes...");  // one more than std::string holds without the heap
  }
  EXPECT_LE(peak_of(bytes, true), 4 * bytes.string().size() + (1 << 20));
}

TEST(GgufMemory, ManyKeys) {
  constexpr size_t kCount = 65536;
  GgufBytes bytes;
  bytes.header(0, kCount);
  for (size_t index = 0; index < kCount; ++index) {
    bytes.key(std::to_string(index), 0).zeros(1);
  }
  EXPECT_LE(peak_of(bytes, true), 4 * bytes.string().size() + kSlackBytes / 4);
}

TEST(GgufMemory, ManyTensors) {
  constexpr size_t kCount = 300000;
  GgufBytes bytes;
  bytes.header(kCount, 1).key("general.alignment", 4).number<uint32_t>(8);
  for (size_t index = 0; index < kCount; ++index) {
    bytes.tensor(std::to_string(index), {1}, 0, 8 * index);
  }
  bytes.pad(8).zeros(8 * kCount);
  EXPECT_LE(peak_of(bytes, true), 4 * bytes.string().size() + (1 << 20));
}

TEST(GgufMemory, RandomDamageAllocatesLittle) {
  GgufBytes whole;
  whole.header(1, 2).key("list", 9).number<uint32_t>(8).number<uint64_t>(2).text("a").text("b");
  whole.key("name", 8).text("x").tensor("t", {8}, 0, 0).pad().zeros(32);
  core::Rng rng(16);
  const size_t before = live_bytes.load();
  peak_bytes.store(before);
  for (int round = 0; round < 5000; ++round) {
    GgufBytes damaged = whole;
    damaged.string()[rng.next_uint64() % damaged.string().size()] =
        static_cast<char>(rng.next_uint64());
    try {
      const GgufFile file(damaged.span(), "memory.gguf");
    } catch (const core::Error&) {
      continue;
    }
  }
  EXPECT_LE(peak_bytes.load() - before, 1 << 20);
}

// The texts that cost the JSON tree most a byte.
TEST(JsonMemory, IsBoundedWhateverTheText) {
  const auto repeat = [](std::string_view start, std::string_view unit, std::string_view end) {
    std::string text(start);
    while (text.size() < (6 << 20)) {
      text += unit;
    }
    return text + std::string(end);
  };
  std::string keys = "{\"\":0";
  for (int index = 0; keys.size() < (6 << 20); ++index) {
    keys += fmt::format(",\"{}\":0", index);
  }
  for (const std::string& text : {repeat("[0", ",0", "]"),
                                  repeat("[0", ",[]", "]"),
                                  repeat("[0", ",{}", "]"),
                                  repeat("[0", ",[[0]]", "]"),
                                  repeat("[0", ",\"\"", "]"),
                                  repeat("[0", ",\"sixteen bytes...\"", "]"),
                                  repeat("[0", ",{\"\":{}}", "]"),
                                  repeat("[0", ",{\"\":\"\"}", "]"),
                                  repeat("[\"" + std::string(1 << 20, 'x') + "\"", "\n", "?"),
                                  keys + "}"}) {
    const size_t before = live_bytes.load();
    peak_bytes.store(before);
    try {
      core::parse_json(text, "memory.json");
    } catch (const core::Error&) {
      // Refused or not: within the bound.
    }
    EXPECT_LE(peak_bytes.load() - before, 4 * text.size() + kSlackBytes) << text.substr(0, 20);
  }
}

size_t safetensors_peak(const std::string& header, bool accepted) {
  const uint64_t length = header.size();
  const std::string bytes = std::string(reinterpret_cast<const char*>(&length), 8) + header;
  return peak_of([&] { read_safetensors(std::as_bytes(std::span(bytes)), "memory.safetensors"); },
                 accepted);
}

// The most that a byte of header can cost: nothing but tensors without data, as many as allowed.
TEST(SafetensorsMemory, ManyTensors) {
  for (const std::string_view shape : {"", "0", "0,1,2,3,4,5,6,7"}) {
    std::string header = "{";
    for (int index = 0; index < 131072; ++index) {
      header += fmt::format(R"({}"{}":{{"dtype":"I64","shape":[{}],"data_offsets":[0,0]}})",
                            index == 0 ? "" : ",",
                            index,
                            shape);
    }
    // A scalar has data: the first is refused, when all have been read.
    EXPECT_LE(safetensors_peak(header + "}", !shape.empty()), 4 * header.size() + kSlackBytes);
  }
}

TEST(SafetensorsMemory, ManyKeys) {
  std::string header = "{\"__metadata__\":{\"x\":\"\"";
  for (int index = 0; index < 65535; ++index) {
    header += fmt::format(",\"{}\":\"\"", index);
  }
  EXPECT_LE(safetensors_peak(header + "}}", true), 4 * header.size() + kSlackBytes);
}

TEST(SafetensorsMemory, LongTextsAndDeepNesting) {
  constexpr size_t kLong = 16 << 20;
  for (const size_t bytes : {size_t{1} << 20, kLong}) {
    EXPECT_LE(safetensors_peak("{\"" + std::string(bytes - 8, 'n'), false), kSlackBytes / 4);
    EXPECT_LE(safetensors_peak("{\"" + std::string(bytes - 8, 'n') + "\":{}}", false),
              kSlackBytes / 4);
    EXPECT_LE(safetensors_peak("{" + std::string(bytes - 8, '['), false), kSlackBytes / 4);
    EXPECT_LE(safetensors_peak("{" + std::string(bytes - 8, '\n') + "x", false), kSlackBytes);
    EXPECT_LE(safetensors_peak("{\"t\":{\"shape\":[" + std::string(bytes - 8, '1'), false),
              kSlackBytes / 4);
  }
}

TEST(SafetensorsMemory, Index) {
  std::string index = "{\"weight_map\":{\"x\":\"x.safetensors\"";
  for (int number = 0; number < 262143; ++number) {
    index += fmt::format(",\"{}\":\"{}.safetensors\"", number, number % 4000);
  }
  index += "}}";
  EXPECT_LE(peak_of([&] { read_safetensors_index(index, "memory.json"); }, true),
            4 * index.size() + kSlackBytes);
  index = "{\"metadata\":[" + std::string(1 << 20, '[');
  EXPECT_LE(peak_of([&] { read_safetensors_index(index, "memory.json"); }, false), kSlackBytes / 4);
}

}  // namespace
}  // namespace adze::formats
