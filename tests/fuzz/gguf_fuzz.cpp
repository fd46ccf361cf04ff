// Any bytes given to the GGUF reader end in a file whose tensors lie inside them, or in one
// core::Error. Found otherwise: a crash, a sanitizer report, or more memory than the file justifies
// (run with -rss_limit_mb=512).

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/error.h"
#include "formats/dequantize.h"
#include "formats/gguf.h"

namespace {

using adze::formats::GgufFile;
using adze::formats::StoredTensor;

void look_up(const GgufFile& file, const std::string& key) {
  const auto attempt = [](auto&& find) {
    try {
      find();
    } catch (const adze::core::Error&) {
      return;  // another type: an error is the right answer
    }
  };
  attempt([&] { file.find_integer(key); });
  attempt([&] { file.find_number(key); });
  attempt([&] { file.find_bool(key); });
  attempt([&] { file.find_string(key); });
  attempt([&] { file.find_strings(key); });
  attempt([&] { file.find_integers(key); });
}

void use(const GgufFile& file, std::span<const std::byte> bytes) {
  for (const auto& [key, value] : file.metadata()) {
    look_up(file, key);
  }
  for (const StoredTensor& tensor : file.tensors()) {
    const std::byte* end = tensor.data.data() + tensor.data.size();
    adze::core::check(tensor.data.data() >= bytes.data() && end <= bytes.data() + bytes.size(),
                      "tensor outside the file");
    adze::core::check(file.find_tensor(tensor.name) == &tensor, "tensor not found by its name");
    const auto& type = adze::core::info(tensor.type);
    std::vector<float> block(static_cast<size_t>(type.block_elements));
    adze::formats::dequantize_row(
        tensor.type, tensor.data.data(), type.block_elements, block.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    use(GgufFile(bytes, "fuzz.gguf"), bytes);
  } catch (const adze::core::Error& failure) {
    // One line, whatever names the file contained.
    adze::core::check(std::string_view(failure.what()).find('\n') == std::string_view::npos,
                      "an error of several lines");
  }
  return 0;
}
