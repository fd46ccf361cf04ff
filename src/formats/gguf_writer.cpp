#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "core/atomic_file.h"
#include "core/check.h"
#include "formats/gguf.h"
#include "formats/gguf_layout.h"

namespace adze::formats {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are written as they lie in memory");

template <class T>
void append(std::string& out, T value) {
  static_assert(std::is_arithmetic_v<T>);
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void append_text(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out.append(text);
}

template <class Variant>
void append_type(std::string& out, const Variant& value) {
  append(out, static_cast<uint32_t>(kGgufAlternatives[value.index()]));
}

void append_scalar(std::string& out, const std::string& value) {
  core::check(value.size() <= kGgufMaxStringBytes, "string of ", value.size(), " bytes");
  append_text(out, value);
}

template <class T>
void append_scalar(std::string& out, T value) {
  append(out, value);
}

void append_scalar(std::string& out, const GgufArray& array) {
  append_type(out, array.values);
  std::visit(
      [&](const auto& values) {
        append<uint64_t>(out, values.size());
        for (size_t index = 0; index < values.size(); ++index) {
          // vector<bool> hands out proxies; the cast makes a bool of them and copies nothing else.
          using Value = typename std::decay_t<decltype(values)>::value_type;
          append_scalar(out, static_cast<const Value&>(values[index]));
        }
      },
      array.values);
}

using Metadata = std::vector<std::pair<std::string, GgufValue>>;

void append_metadata(std::string& out, const Metadata& metadata) {
  std::set<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    core::check(!key.empty() && key.size() <= kGgufMaxKeyBytes, "key of ", key.size(), " bytes");
    core::check(keys.insert(key).second, "duplicate key ", key);
    append_text(out, key);
    append_type(out, value);
    std::visit([&](const auto& held) { append_scalar(out, held); }, value);
  }
}

uint64_t choose_alignment(const Metadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (key == kGgufAlignmentKey) {
      const auto* alignment = std::get_if<uint32_t>(&value);
      core::check(alignment != nullptr && is_legal_alignment(*alignment), "illegal ", key);
      return *alignment;
    }
  }
  return kGgufDefaultAlignment;
}

void check_tensor(const TensorOutput& tensor) {
  core::check(!tensor.name.empty() && tensor.name.size() <= kGgufMaxNameBytes,
              "tensor name of ",
              tensor.name.size(),
              " bytes");
  core::check(!tensor.shape.empty() && tensor.shape.size() <= kGgufMaxDimensions,
              tensor.name,
              " has ",
              tensor.shape.size(),
              " dimensions");
  core::check(output_bytes(tensor) > 0, tensor.name, " has no values");
}

void append_tensors(std::string& out,
                    const std::vector<TensorOutput>& tensors,
                    uint64_t alignment) {
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const TensorOutput& tensor : tensors) {
    check_tensor(tensor);
    core::check(names.insert(tensor.name).second, "duplicate tensor ", tensor.name);
    append_text(out, tensor.name);
    append(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto inner = tensor.shape.rbegin(); inner != tensor.shape.rend(); ++inner) {
      append(out, *inner);
    }
    append(out, static_cast<uint32_t>(tensor.type));
    append(out, offset);
    offset = align_up(offset + output_bytes(tensor), alignment);
  }
}

}  // namespace

void write_gguf(const std::filesystem::path& path,
                const Metadata& metadata,
                const std::vector<TensorOutput>& tensors) {
  // What the reader refuses must not be written.
  core::check(metadata.size() <= kGgufMaxMetadata, metadata.size(), " metadata keys");
  core::check(tensors.size() <= kGgufMaxTensors, tensors.size(), " tensors");
  const uint64_t alignment = choose_alignment(metadata);
  std::string header(kGgufMagic);
  append(header, kGgufVersion);
  append<uint64_t>(header, tensors.size());
  append<uint64_t>(header, metadata.size());
  append_metadata(header, metadata);
  append_tensors(header, tensors, alignment);
  header.resize(align_up(header.size(), alignment), '\0');

  core::AtomicFile file(path);
  file.write(header);
  for (const TensorOutput& tensor : tensors) {
    const auto bytes = filled_bytes(tensor);
    file.write(bytes);
    file.write(std::string(align_up(bytes.size(), alignment) - bytes.size(), '\0'));
  }
  file.commit();
}

}  // namespace adze::formats
