#include "formats/gguf_tensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "formats/gguf_layout.h"
#include "formats/quote_untrusted.h"

namespace adze::formats {
namespace {

// Names of types that exist in the format and that no kernel of ours reads.
std::string_view unsupported_type_name(uint32_t id) {
  constexpr std::array<std::pair<uint32_t, std::string_view>, 27> kNames = {{
      {4, "q4_2"},    {5, "q4_3"},        {9, "q8_1"},        {15, "q8_k"},       {16, "iq2_xxs"},
      {17, "iq2_xs"}, {18, "iq3_xxs"},    {19, "iq1_s"},      {21, "iq3_s"},      {22, "iq2_s"},
      {24, "i8"},     {25, "i16"},        {26, "i32"},        {27, "i64"},        {28, "f64"},
      {29, "iq1_m"},  {31, "q4_0_4_4"},   {32, "q4_0_4_8"},   {33, "q4_0_8_8"},   {34, "tq1_0"},
      {35, "tq2_0"},  {36, "iq4_nl_4_4"}, {37, "iq4_nl_4_8"}, {38, "iq4_nl_8_8"}, {39, "mxfp4"},
      {40, "nvfp4"},  {41, "q1_0"},
  }};
  for (const auto& [known, name] : kNames) {
    if (known == id) {
      return name;
    }
  }
  return "unknown";
}

std::string supported_type_names() {
  constexpr uint32_t kHighestId = 63;  // beyond every number given out so far
  std::string names;
  for (uint32_t id = 0; id <= kHighestId; ++id) {
    if (const auto type = core::tensor_type_from_id(id)) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", core::info(*type).name);
    }
  }
  return names;
}

core::TensorType tensor_type(GgufCursor& cursor) {
  const auto id = cursor.number<uint32_t>("type");
  const auto type = core::tensor_type_from_id(id);
  if (!type) {
    cursor.fail_plainly(fmt::format("type {} ({}) is not supported; supported: {}",
                                    unsupported_type_name(id),
                                    id,
                                    supported_type_names()));
  }
  return *type;
}

std::vector<int64_t> dimensions(GgufCursor& cursor) {
  const auto count = cursor.number<uint32_t>("number of dimensions");
  if (count < 1 || count > kGgufMaxDimensions) {
    cursor.fail_range("number of dimensions", 1, kGgufMaxDimensions, count);
  }
  std::vector<int64_t> shape(count);
  int64_t elements = 1;
  for (auto outer = shape.rbegin(); outer != shape.rend(); ++outer) {  // the file: innermost first
    *outer = cursor.number<int64_t>("dimension");
    if (*outer < 1) {
      cursor.fail("dimension", "at least 1", *outer);
    }
    if (__builtin_mul_overflow(elements, *outer, &elements)) {
      cursor.fail("dimension", "a product of dimensions below 2^63", *outer);
    }
  }
  return shape;
}

StoredTensor tensor_header(GgufCursor& cursor, uint64_t index, uint64_t& offset) {
  StoredTensor tensor;
  const std::string_view name = cursor.text("name length", 1, kGgufMaxNameBytes);
  cursor.set_context({"tensor", index, name});
  tensor.name = name;
  tensor.shape = dimensions(cursor);
  tensor.type = tensor_type(cursor);
  const auto& type = core::info(tensor.type);
  if (tensor.shape.back() % type.block_elements != 0) {
    cursor.fail("columns",
                fmt::format("a multiple of {} for type {}", type.block_elements, type.name),
                tensor.shape.back());
  }
  offset = cursor.number<uint64_t>("offset");
  return tensor;
}

// Saturates, so that what cannot be counted cannot fit into the file either.
uint64_t tensor_bytes(const StoredTensor& tensor) {
  const auto& type = core::info(tensor.type);
  auto blocks = static_cast<uint64_t>(tensor.shape.back() / type.block_elements);
  for (size_t axis = 0; axis + 1 < tensor.shape.size(); ++axis) {
    blocks *= static_cast<uint64_t>(tensor.shape[axis]);  // the product of all was below 2^63
  }
  uint64_t total = 0;
  return __builtin_mul_overflow(blocks, static_cast<uint64_t>(type.block_bytes), &total)
             ? UINT64_MAX
             : total;
}

void place_tensors(GgufCursor& cursor,
                   GgufContents& contents,
                   const std::vector<uint64_t>& offsets,
                   uint64_t unit) {
  const uint64_t data_begin =
      std::min<uint64_t>(align_up(cursor.position(), unit), cursor.bytes().size());
  const uint64_t data_bytes = cursor.bytes().size() - data_begin;
  for (size_t index = 0; index < offsets.size(); ++index) {
    StoredTensor& tensor = contents.tensors[index];
    cursor.set_context({"tensor", index, tensor.name});
    if (offsets[index] % unit != 0) {
      cursor.fail("offset", fmt::format("a multiple of the alignment {}", unit), offsets[index]);
    }
    const uint64_t size = tensor_bytes(tensor);
    if (size > data_bytes || offsets[index] > data_bytes - size) {
      cursor.fail("data",
                  fmt::format("offset and size within the {} bytes of tensor data", data_bytes),
                  fmt::format("offset {}, size {}", offsets[index], size));
    }
    tensor.data = cursor.bytes().subspan(data_begin + offsets[index], size);
  }
}

std::vector<uint32_t> indices(size_t count) {
  std::vector<uint32_t> list(count);
  std::iota(list.begin(), list.end(), 0U);
  return list;
}

void sort_names(GgufCursor& cursor, GgufContents& contents) {
  const auto& tensors = contents.tensors;
  contents.by_name = indices(tensors.size());
  std::sort(contents.by_name.begin(), contents.by_name.end(), [&](uint32_t left, uint32_t right) {
    return tensors[left].name < tensors[right].name;
  });
  for (size_t rank = 1; rank < tensors.size(); ++rank) {
    const uint32_t index = contents.by_name[rank];
    if (tensors[index].name == tensors[contents.by_name[rank - 1]].name) {
      cursor.set_context({"tensor", index, tensors[index].name});
      cursor.fail("name", "each name once", "a second tensor");
    }
  }
}

void check_overlap(GgufCursor& cursor, const GgufContents& contents) {
  const auto& tensors = contents.tensors;
  auto by_offset = indices(tensors.size());
  std::sort(by_offset.begin(), by_offset.end(), [&](uint32_t left, uint32_t right) {
    return tensors[left].data.data() < tensors[right].data.data();
  });
  for (size_t rank = 1; rank < tensors.size(); ++rank) {
    const StoredTensor& previous = tensors[by_offset[rank - 1]];
    const StoredTensor& tensor = tensors[by_offset[rank]];
    if (previous.data.data() + previous.data.size() > tensor.data.data()) {
      cursor.set_context({"tensor", by_offset[rank], tensor.name});
      cursor.fail("data",
                  "bytes of its own",
                  fmt::format("an overlap with {}", quote_untrusted(previous.name)));
    }
  }
}

}  // namespace

void read_gguf_tensors(GgufCursor& cursor,
                       uint64_t count,
                       uint64_t alignment,
                       GgufContents& contents) {
  cursor.set_context({"header"});
  // Checked again: the metadata took its part of the bytes that were left.
  if (count > cursor.remaining() / kGgufMinTensorBytes) {
    cursor.fail_range("tensor count", 0, cursor.remaining() / kGgufMinTensorBytes, count);
  }
  contents.tensors.reserve(count);
  std::vector<uint64_t> offsets;
  offsets.reserve(count);
  for (uint64_t index = 0; index < count; ++index) {
    cursor.set_context({"tensor", index});
    uint64_t offset = 0;
    contents.tensors.push_back(tensor_header(cursor, index, offset));
    offsets.push_back(offset);
  }
  sort_names(cursor, contents);
  place_tensors(cursor, contents, offsets, alignment);
  check_overlap(cursor, contents);
}

}  // namespace adze::formats
