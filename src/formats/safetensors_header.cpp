#include "formats/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "core/error.h"
#include "formats/json_events.h"
#include "formats/quote_untrusted.h"
#include "formats/safetensors_layout.h"

namespace adze::formats {
namespace {

static_assert(std::endian::native == std::endian::little,
              "lengths are read as they lie in the file");

struct Entry {
  std::string name;
  const SafetensorsDtype* dtype = nullptr;
  bool has_shape = false;
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;  // begin and end in the data
};

core::Error fault_in(const std::string& file,
                     std::string_view field,
                     std::string_view expected,
                     std::string_view got) {
  return core::error("safetensors", "{}: {}: expected {}, got {}", file, field, expected, got);
}

// {"__metadata__": {"key": "value", ...}, "tensor": {"dtype": "F32", "shape": [2, 3],
// "data_offsets": [0, 24]}, ...}
class HeaderEvents : public JsonEvents {
 public:
  explicit HeaderEvents(const std::string& file) : file_(file) {}

  std::map<std::string, std::string> metadata;
  std::vector<Entry> entries;

  bool start_object(size_t size) override;
  bool end_object() override;
  bool key(string_t& value) override;
  bool string(string_t& value) override;
  bool start_array(size_t size) override;
  bool end_array() override;
  bool number_unsigned(number_unsigned_t value) override;

 protected:
  core::Error fault(std::string_view got) const override;

 private:
  enum class Place {
    kStart,
    kTop,
    kMetadata,
    kMetadataValue,
    kTensor,
    kDtype,
    kShape,
    kShapeList,
    kOffsets,
    kOffsetsList,
    kEnd,
  };

  void add_name(const std::string& name);
  void set_dtype(const std::string& name);
  std::string field() const;

  const std::string& file_;
  Place place_ = Place::kStart;
  std::string key_;        // of the value that follows
  bool in_value_ = false;  // a key of the outer object waits for its object
  bool has_metadata_ = false;
};

std::string HeaderEvents::field() const {
  switch (place_) {
    case Place::kStart:
    case Place::kEnd:
    case Place::kTop:
      return in_value_ ? "header, " + quote_untrusted(key_) : "header";
    case Place::kMetadata:
    case Place::kMetadataValue:
      return "header, __metadata__";
    default:
      return "tensor " + quote_untrusted(entries.back().name);
  }
}

core::Error HeaderEvents::fault(std::string_view got) const {
  const auto expected = [this]() -> std::string_view {
    switch (place_) {
      case Place::kStart:
        return "a JSON object";
      case Place::kTop:
        return in_value_ ? "an object" : "a tensor's name";
      case Place::kMetadata:
        return "each key once";
      case Place::kMetadataValue:
        return "a string as value";
      case Place::kTensor:
        return "dtype, shape and data_offsets once each";
      case Place::kDtype:
        return "a string as dtype";
      case Place::kShape:
        return "a list as shape";
      case Place::kShapeList:
        return "up to 8 dimensions from 0 to 2^63 - 1 as shape";
      case Place::kOffsets:
      case Place::kOffsetsList:
        return "a list of two integers from 0 as data_offsets";
      case Place::kEnd:
        break;
    }
    return "the end of the header";
  };
  return fault_in(file_, field(), expected(), got);
}

bool HeaderEvents::start_object(size_t /*size*/) {
  if (place_ == Place::kStart) {
    place_ = Place::kTop;
  } else if (place_ == Place::kTop && in_value_) {
    in_value_ = false;
    place_ = key_ == kSafetensorsMetadataKey ? Place::kMetadata : Place::kTensor;
    if (place_ == Place::kTensor) {
      add_name(key_);
    }
  } else {
    refuse("an object");
  }
  return true;
}

bool HeaderEvents::end_object() {
  if (place_ == Place::kTop) {
    place_ = Place::kEnd;
    return true;
  }
  if (place_ == Place::kTensor) {
    const Entry& entry = entries.back();
    if (entry.dtype == nullptr || !entry.has_shape || entry.offsets.empty()) {
      refuse("fewer");
    }
  }
  place_ = Place::kTop;
  return true;
}

bool HeaderEvents::key(string_t& value) {
  key_ = value;
  if (place_ == Place::kTop) {
    in_value_ = true;
    if (value == kSafetensorsMetadataKey && std::exchange(has_metadata_, true)) {
      throw fault_in(file_, "header", "each key once", "a second __metadata__");
    }
  } else if (place_ == Place::kMetadata) {
    if (metadata.size() >= kSafetensorsMaxMetadata) {
      throw fault_in(file_, field(), fmt::format("up to {} keys", kSafetensorsMaxMetadata), "more");
    }
    if (!metadata.try_emplace(value).second) {
      refuse("a second " + quote_untrusted(value));
    }
    place_ = Place::kMetadataValue;
  } else {
    const Entry& entry = entries.back();
    if (value == "dtype" && entry.dtype == nullptr) {
      place_ = Place::kDtype;
    } else if (value == "shape" && !entry.has_shape) {
      place_ = Place::kShape;
    } else if (value == "data_offsets" && entry.offsets.empty()) {
      place_ = Place::kOffsets;
    } else {
      refuse("key " + quote_untrusted(value));
    }
  }
  return true;
}

bool HeaderEvents::string(string_t& value) {
  if (place_ == Place::kMetadataValue) {
    metadata[key_] = value;
    place_ = Place::kMetadata;
  } else if (place_ == Place::kDtype) {
    set_dtype(value);
    place_ = Place::kTensor;
  } else {
    refuse("string " + quote_untrusted(value));
  }
  return true;
}

bool HeaderEvents::start_array(size_t /*size*/) {
  if (place_ == Place::kShape) {
    entries.back().has_shape = true;
    place_ = Place::kShapeList;
  } else if (place_ == Place::kOffsets) {
    entries.back().offsets.reserve(2);
    place_ = Place::kOffsetsList;
  } else {
    refuse("a list");
  }
  return true;
}

bool HeaderEvents::end_array() {
  if (place_ == Place::kOffsetsList && entries.back().offsets.size() != 2) {
    refuse(fmt::format("{}", entries.back().offsets.size()));
  }
  place_ = Place::kTensor;
  return true;
}

bool HeaderEvents::number_unsigned(number_unsigned_t value) {
  if (place_ == Place::kShapeList && entries.back().shape.size() < kSafetensorsMaxDimensions &&
      std::in_range<int64_t>(value)) {
    entries.back().shape.push_back(static_cast<int64_t>(value));
  } else if (place_ == Place::kOffsetsList && entries.back().offsets.size() < 2) {
    entries.back().offsets.push_back(value);
  } else {
    refuse(fmt::format("{}", value));
  }
  return true;
}

void HeaderEvents::add_name(const std::string& name) {
  if (name.empty() || name.size() > kSafetensorsMaxNameBytes) {
    throw fault_in(file_,
                   "tensor " + quote_untrusted(name),
                   fmt::format("a name of 1 to {} bytes", kSafetensorsMaxNameBytes),
                   fmt::format("{}", name.size()));
  }
  if (entries.size() >= kSafetensorsMaxTensors) {
    throw fault_in(
        file_, "header", fmt::format("up to {} tensors", kSafetensorsMaxTensors), "more");
  }
  entries.emplace_back().name = name;
}

void HeaderEvents::set_dtype(const std::string& name) {
  std::string known;
  for (const SafetensorsDtype& dtype : kSafetensorsDtypes) {
    if (dtype.name == name) {
      entries.back().dtype = &dtype;
      return;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", dtype.name);
  }
  throw fault_in(file_, field(), "one of the dtypes " + known, quote_untrusted(name));
}

// The header's text; what follows it is the data.
std::string_view take_header(std::span<const std::byte>& bytes, const std::string& file) {
  if (bytes.size() < kSafetensorsLengthBytes) {
    throw fault_in(
        file, "header length", "8 bytes", fmt::format("{} until the end of file", bytes.size()));
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  bytes = bytes.subspan(kSafetensorsLengthBytes);
  const uint64_t longest = std::min<uint64_t>(kSafetensorsMaxHeaderBytes, bytes.size());
  if (length > longest) {
    throw fault_in(
        file, "header length", fmt::format("0 to {}", longest), fmt::format("{}", length));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), length);
  if (!text.starts_with('{')) {  // not even white space: the format says so
    throw fault_in(file, "header", "\"{\" as first byte", quote_untrusted(text.substr(0, 1)));
  }
  bytes = bytes.subspan(length);
  return text;
}

// shape x dtype, or nothing where the product overflows.
std::optional<uint64_t> bytes_of(const Entry& entry) {
  int64_t total = entry.dtype->bytes;
  for (const int64_t dimension : entry.shape) {
    if (__builtin_mul_overflow(total, dimension, &total)) {
      return std::nullopt;
    }
  }
  return static_cast<uint64_t>(total);
}

// The format wants tensors that follow one another: no holes, no overlap, nothing behind the last.
void check_places(const std::vector<Entry>& entries, uint64_t data_bytes, const std::string& file) {
  uint64_t expected_begin = 0;
  for (const Entry& entry : entries) {
    const std::string field = "tensor " + quote_untrusted(entry.name);
    const uint64_t begin = entry.offsets[0];
    const uint64_t end = entry.offsets[1];
    const auto offsets = [&] { return fmt::format("[{}, {}]", begin, end); };
    if (begin > end || end > data_bytes) {
      throw fault_in(file,
                     field,
                     fmt::format("data_offsets in order within the {} bytes of data", data_bytes),
                     offsets());
    }
    const auto size = bytes_of(entry);
    if (!size || *size != end - begin) {
      throw fault_in(file,
                     field,
                     fmt::format("as many bytes as shape [{}] of {} has",
                                 fmt::join(entry.shape, ", "),
                                 entry.dtype->name),
                     offsets());
    }
    if (begin != expected_begin) {
      throw fault_in(
          file,
          field,
          fmt::format("data_offsets from {}, where the data before it ends", expected_begin),
          offsets());
    }
    expected_begin = end;
  }
  if (expected_begin != data_bytes) {
    throw fault_in(file,
                   "data",
                   fmt::format("{} bytes, as the tensors take", expected_begin),
                   fmt::format("{}", data_bytes));
  }
}

void check_names(const std::vector<Entry>& entries, const std::string& file) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const Entry& entry : entries) {
    names.emplace_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    throw fault_in(file, "tensor " + quote_untrusted(*twice), "each name once", "a second tensor");
  }
}

}  // namespace

SafetensorsContents read_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  const std::string_view header = take_header(bytes, file);
  HeaderEvents events(file);
  events.read(header, file);
  auto& entries = events.entries;
  check_names(entries, file);
  std::sort(entries.begin(), entries.end(), [](const Entry& left, const Entry& right) {
    return left.offsets < right.offsets;
  });
  check_places(entries, bytes.size(), file);

  SafetensorsContents contents;
  contents.metadata = std::move(events.metadata);
  const auto is_loaded = [](const Entry& entry) { return entry.dtype->type.has_value(); };
  const auto num_loaded = std::count_if(entries.begin(), entries.end(), is_loaded);
  contents.tensors.reserve(static_cast<size_t>(num_loaded));
  for (Entry& entry : entries) {
    if (const auto type = entry.dtype->type) {
      const auto data = bytes.subspan(entry.offsets[0], entry.offsets[1] - entry.offsets[0]);
      contents.tensors.push_back({std::move(entry.name), *type, std::move(entry.shape), data});
    } else {
      contents.skipped.push_back(
          {std::move(entry.name), std::string(entry.dtype->name), std::move(entry.shape)});
    }
  }
  return contents;
}

}  // namespace adze::formats
