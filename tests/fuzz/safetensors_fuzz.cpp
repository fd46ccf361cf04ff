// Any bytes given to the safetensors reader end in tensors that lie inside them, one behind the
// other, or in one core::Error; the same bytes read as an index of shards name plain files only.
// Found otherwise: a crash, a sanitizer report, or more memory than the file justifies (run with
// -rss_limit_mb=512).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/check.h"
#include "core/error.h"
#include "formats/safetensors_header.h"
#include "formats/safetensors_index.h"

namespace {

using adze::formats::StoredTensor;

void read_file(std::span<const std::byte> bytes) {
  const auto contents = adze::formats::read_safetensors(bytes, "fuzz.safetensors");
  const std::byte* end = bytes.data() + std::min<size_t>(bytes.size(), 8);
  for (const StoredTensor& tensor : contents.tensors) {
    adze::core::check(tensor.data.empty() || tensor.data.data() >= end, "tensors meet");
    end = tensor.data.empty() ? end : tensor.data.data() + tensor.data.size();
    adze::core::check(end <= bytes.data() + bytes.size(), "tensor outside the file");
    const auto size = static_cast<uint64_t>(adze::core::info(tensor.type).block_bytes);
    uint64_t expected = size;
    for (const int64_t dimension : tensor.shape) {
      expected *= static_cast<uint64_t>(dimension);
    }
    adze::core::check(expected == tensor.data.size(), "shape and data disagree");
  }
}

void read_index(std::string_view text) {
  for (const auto& [shard, names] : adze::formats::read_safetensors_index(text, "fuzz.json")) {
    adze::core::check(shard.find('/') == std::string::npos && shard.front() != '.',
                      "a shard elsewhere");
    adze::core::check(std::is_sorted(names.begin(), names.end()), "names out of order");
  }
}

template <class Read>
void attempt(Read&& read) {
  try {
    read();
  } catch (const adze::core::Error& failure) {
    // One line, whatever names the file contained.
    adze::core::check(std::string_view(failure.what()).find('\n') == std::string_view::npos,
                      "an error of several lines");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  attempt([&] { read_file(bytes); });
  attempt([&] { read_index({reinterpret_cast<const char*>(data), size}); });
  return 0;
}
