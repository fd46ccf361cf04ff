#include "data/documents.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include <archive.h>
#include <archive_entry.h>
#include <glob.h>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace adze::data {
namespace {

constexpr size_t kLongestLine = size_t{1} << 30;
constexpr size_t kBlock = size_t{1} << 18;

bool is_compressed(const std::filesystem::path& file) {
  return file.extension() == ".gz" || file.extension() == ".zst";
}

bool has_lines(const std::filesystem::path& file) {
  const std::filesystem::path name = is_compressed(file) ? file.stem() : file;
  const auto extension = name.extension();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

// The bytes of a file from `begin` on, decompressed where its name says so.
class ByteStream {
 public:
  ByteStream(const std::filesystem::path& file, int64_t begin) : file_(file) {
    if (!is_compressed(file)) {
      plain_.reset(std::fopen(file.c_str(), "rb"));
      if (!plain_ || ::fseeko(plain_.get(), begin, SEEK_SET) != 0) {
        throw core::error("data", "cannot read {}: {}", file.string(), std::strerror(errno));
      }
      return;
    }
    archive_.reset(::archive_read_new());
    archive* reader = archive_.get();
    require(reader != nullptr && ::archive_read_support_filter_gzip(reader) == ARCHIVE_OK &&
            ::archive_read_support_filter_zstd(reader) == ARCHIVE_OK &&
            ::archive_read_support_format_raw(reader) == ARCHIVE_OK &&
            ::archive_read_support_format_empty(reader) == ARCHIVE_OK);
    require(::archive_read_open_filename(reader, file.c_str(), kBlock) == ARCHIVE_OK);
    archive_entry* entry = nullptr;
    const int code = ::archive_read_next_header(reader, &entry);
    at_end_ = code == ARCHIVE_EOF;
    require(at_end_ || code == ARCHIVE_OK);
    // A file of another form would be read as it is.
    if (!at_end_ && ::archive_filter_count(reader) < 2) {
      throw core::error("data", "{}: expected gzip or zstd, as its name says", file.string());
    }
  }

  // Appends up to kBlock bytes; false at the end.
  bool read(std::string& target) {
    const size_t before = target.size();
    target.resize(before + kBlock);
    size_t count = 0;
    if (plain_) {
      count = std::fread(target.data() + before, 1, kBlock, plain_.get());
      if (count == 0 && std::ferror(plain_.get()) != 0) {
        throw core::error("data", "cannot read {}: {}", file_.string(), std::strerror(errno));
      }
    } else if (!at_end_) {
      const la_ssize_t got = ::archive_read_data(archive_.get(), target.data() + before, kBlock);
      require(got >= 0);
      count = static_cast<size_t>(got);
    }
    target.resize(before + count);
    return count > 0;
  }

  // Of the file on disk.
  int64_t place() const {
    return plain_ ? ::ftello(plain_.get()) : ::archive_filter_bytes(archive_.get(), -1);
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
    void operator()(archive* reader) const { ::archive_read_free(reader); }
  };
  void require(bool succeeded) const {
    if (!succeeded) {
      const char* reason = archive_ ? ::archive_error_string(archive_.get()) : nullptr;
      throw core::error("data",
                        "cannot read {}: {}",
                        file_.string(),
                        reason != nullptr ? reason : std::strerror(errno));
    }
  }

  const std::filesystem::path& file_;
  std::unique_ptr<std::FILE, Close> plain_;
  std::unique_ptr<archive, Close> archive_;
  bool at_end_ = false;
};

// Keeps the string under a key of the outermost object, and nothing else of the line.
class TextEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit TextEvents(const std::string& key) : wanted_(key) {}

  std::optional<std::string>& text() { return text_; }
  size_t fault() const { return fault_; }

  bool null() override { return other(); }
  bool boolean(bool /*value*/) override { return other(); }
  bool number_integer(number_integer_t /*value*/) override { return other(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return other(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return other(); }
  bool string(string_t& value) override {
    if (depth_ == 1 && is_wanted_) {
      text_ = std::move(value);
    }
    return true;
  }
  bool binary(binary_t& /*value*/) override { return false; }
  bool start_object(size_t /*size*/) override { return open(); }
  bool key(string_t& value) override {
    is_wanted_ = depth_ == 1 && in_object_ && value == wanted_;
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t /*size*/) override {
    in_object_ = in_object_ && depth_ > 0;
    return open();
  }
  bool end_array() override { return close(); }
  bool parse_error(size_t place,
                   const std::string& /*token*/,
                   const nlohmann::detail::exception& /*failure*/) override {
    fault_ = place;
    return false;
  }

 private:
  bool other() {
    if (depth_ == 1 && is_wanted_) {
      text_.reset();  // of equal keys the last one counts
    }
    return true;
  }
  bool open() {
    other();
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    is_wanted_ = false;
    return true;
  }

  const std::string& wanted_;
  std::optional<std::string> text_;
  int64_t depth_ = 0;
  bool in_object_ = true;
  bool is_wanted_ = false;
  size_t fault_ = 0;
};

int64_t parse_count(std::string_view text) {
  int64_t value = -1;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size() ? value : -1;
}

}  // namespace

InputPart InputPart::parse(const std::string& text) {
  const size_t slash = text.find('/');
  InputPart part;
  part.index = parse_count(std::string_view(text).substr(0, slash));
  part.count =
      slash == std::string::npos ? -1 : parse_count(std::string_view(text).substr(slash + 1));
  if (part.count < 1 || part.count > 100'000 || part.index < 0 || part.index >= part.count) {
    throw core::InvalidOption("shard", text, "I/N with N from 1 to 100000 and I from 0 to N - 1");
  }
  return part;
}

std::vector<std::filesystem::path> matching_files(const std::vector<std::string>& patterns) {
  std::vector<std::filesystem::path> files;
  std::set<std::filesystem::path> seen;
  for (const std::string& pattern : patterns) {
    glob_t found = {};
    const int code = ::glob(pattern.c_str(), 0, nullptr, &found);
    const std::vector<std::string> names(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (code != 0 || names.empty()) {
      throw core::error("data", "input: expected files, {} matches none", pattern);
    }
    for (const std::string& name : names) {
      if (!std::filesystem::is_regular_file(name)) {
        throw core::error("data", "input: expected files, {} is none", name);
      }
      if (seen.insert(std::filesystem::weakly_canonical(name)).second) {
        files.emplace_back(name);
      }
    }
  }
  return files;
}

struct DocumentReader::Implementation {
  struct Range {
    size_t file;
    int64_t begin;  // documents that start here or later ...
    int64_t end;    // ... and before this
    int64_t size;   // of the file
  };

  Implementation(std::vector<std::filesystem::path> given, InputPart part)
      : files(std::move(given)) {
    std::vector<int64_t> sizes;
    int64_t all = 0;
    for (const auto& file : files) {
      sizes.push_back(static_cast<int64_t>(std::filesystem::file_size(file)));
      all += sizes.back();
    }
    // In 128 bits: bytes times parts.
    const auto border = [&](int64_t index) {
      return static_cast<int64_t>(static_cast<__int128>(all) * index / part.count);
    };
    const int64_t first = border(part.index);
    const int64_t last = border(part.index + 1);
    int64_t place = 0;
    for (size_t i = 0; i < files.size(); ++i) {
      const bool whole = is_compressed(files[i]) || !has_lines(files[i]);
      Range here{
          i, std::max<int64_t>(first - place, 0), std::min(last - place, sizes[i]), sizes[i]};
      if (whole) {  // it belongs to where it begins
        const bool begins_here = place >= first && place < last;
        here.begin = 0;
        here.end = begins_here ? sizes[i] : 0;
      }
      if (here.begin < here.end) {
        ranges.push_back(here);
        total += here.end - here.begin;
      }
      place += sizes[i];
    }
  }

  bool open_next() {
    if (next_range == ranges.size()) {
      return false;
    }
    range = &ranges[next_range++];
    const std::filesystem::path& file = files[range->file];
    lines = has_lines(file);
    // The byte before tells whether a line starts at `begin`.
    const int64_t from = range->begin > 0 ? range->begin - 1 : 0;
    stream.emplace(file, from);
    buffer.clear();
    used = 0;
    line = 0;
    start = from;
    if (range->begin > 0) {
      std::string rest;
      take_line(rest);
    }
    return true;
  }

  // The next line without its end; false where the stream has no more bytes.
  bool take_line(std::string& target) {
    size_t searched = used;
    while (true) {
      const size_t end = buffer.find('\n', searched);
      if (end != std::string::npos) {
        target.assign(buffer, used, end - used);
        start += static_cast<int64_t>(end + 1 - used);
        used = end + 1;
        ++line;
        return true;
      }
      if (buffer.size() - used > kLongestLine) {
        throw core::error(
            "data", "{}: line {}: expected at most 1 GiB", files[range->file].string(), line + 1);
      }
      buffer.erase(0, used);
      used = 0;
      searched = buffer.size();
      if (!stream->read(buffer)) {
        break;
      }
    }
    if (buffer.empty()) {
      return false;
    }
    target = std::exchange(buffer, {});
    start += static_cast<int64_t>(target.size());
    ++line;
    return true;
  }

  bool next(RawDocument& document) {
    while (true) {
      if (!stream && !open_next()) {
        return false;
      }
      document.file = &files[range->file];
      const bool compressed = is_compressed(*document.file);
      if (lines) {
        const bool inside = compressed || start < range->end;
        if (inside && take_line(document.content)) {
          if (!document.content.empty() && document.content.back() == '\r') {
            document.content.pop_back();
          }
          // Lines of a later part are counted from where it begins.
          document.line = line;
          if (document.content.find_first_not_of(" \t") == std::string::npos) {
            continue;
          }
          return true;
        }
      } else {
        document.content.clear();
        document.line = 0;
        while (stream->read(document.content)) {
        }
      }
      done += range->end - range->begin;
      stream.reset();
      if (!lines && !document.content.empty()) {
        return true;
      }
    }
  }

  int64_t bytes_read() const {
    return done + (stream ? std::clamp<int64_t>(
                                stream->place() - range->begin, 0, range->end - range->begin)
                          : 0);
  }

  std::vector<std::filesystem::path> files;
  std::vector<Range> ranges;
  size_t next_range = 0;
  const Range* range = nullptr;
  std::optional<ByteStream> stream;
  bool lines = false;
  std::string buffer;
  size_t used = 0;    // of the buffer
  int64_t start = 0;  // place in the (decompressed) file of the next line
  int64_t line = 0;
  int64_t done = 0;  // bytes of finished ranges
  int64_t total = 0;
};

DocumentReader::DocumentReader(std::vector<std::filesystem::path> files, InputPart part)
    : implementation_(std::make_unique<Implementation>(std::move(files), part)) {}
DocumentReader::~DocumentReader() = default;

bool DocumentReader::next(RawDocument& document) {
  return implementation_->next(document);
}
int64_t DocumentReader::bytes_read() const {
  return implementation_->bytes_read();
}
int64_t DocumentReader::bytes_total() const {
  return implementation_->total;
}

std::string document_text(const RawDocument& document, const std::string& key) {
  if (document.line == 0) {
    return document.content;
  }
  TextEvents events(key);
  const bool parsed = nlohmann::json::sax_parse(document.content, &events);
  if (!parsed || !events.text()) {
    throw core::error("data",
                      "{}: line {}: expected an object with a text under \"{}\"{}",
                      document.file->string(),
                      document.line,
                      key,
                      parsed ? "" : fmt::format(", no JSON at byte {}", events.fault()));
  }
  return std::move(*events.text());
}

}  // namespace adze::data
