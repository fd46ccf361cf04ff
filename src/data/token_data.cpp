#include "data/token_data.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/error.h"
#include "core/json.h"
#include "core/write_all.h"

namespace adze::data {
namespace {

constexpr const char* kFormat = "adze tokens 1";

// A field of a manifest, with the messages that a damaged one deserves.
class Fields {
 public:
  Fields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) {
      throw core::error("data", "{}: expected an object, got {}", where_, object_.type_name());
    }
  }

  int64_t integer(const char* name, int64_t least, int64_t most) const {
    const auto found = object_.find(name);
    const bool fits =
        found != object_.end() && found->is_number_integer() &&
        (!found->is_number_unsigned() ||
         found->get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    if (!fits || found->get<int64_t>() < least || found->get<int64_t>() > most) {
      throw core::error("data",
                        "{}: {}: expected an integer from {} to {}, got {}",
                        where_,
                        name,
                        least,
                        most,
                        found == object_.end() ? "none" : found->dump().substr(0, 60));
    }
    return found->get<int64_t>();
  }

  std::string text(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end() || !found->is_string()) {
      throw core::error("data", "{}: {}: expected a string", where_, name);
    }
    return found->get<std::string>();
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

// Names become files of the folder, and nothing else.
bool is_shard_name(const std::string& name) {
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

core::MappedFile open_part(const std::filesystem::path& path, int64_t bytes) {
  core::MappedFile file(path);
  if (std::cmp_not_equal(file.bytes().size(), bytes)) {
    throw core::error("data",
                      "{}: expected {} bytes as the manifest says, got {}",
                      path.string(),
                      bytes,
                      file.bytes().size());
  }
  return file;
}

void check_sum(const core::MappedFile& file, const std::string& expected) {
  if (const std::string sum = formats::sha256(file.bytes()); sum != expected) {
    throw core::error(
        "data", "{} is damaged: expected sha256 {}, got {}", file.path().string(), expected, sum);
  }
}

}  // namespace

int64_t TokenManifest::documents() const {
  int64_t sum = 0;
  for (const TokenShard& shard : shards) {
    sum += shard.documents;
  }
  return sum;
}

int64_t TokenManifest::tokens() const {
  int64_t sum = 0;
  for (const TokenShard& shard : shards) {
    sum += shard.tokens;
  }
  return sum;
}

nlohmann::ordered_json to_json(const TokenManifest& manifest) {
  auto shards = nlohmann::ordered_json::array();
  for (const TokenShard& shard : manifest.shards) {
    shards.push_back({{"name", shard.name},
                      {"documents", shard.documents},
                      {"tokens", shard.tokens},
                      {"tokens_sha256", shard.tokens_sha256},
                      {"lengths_sha256", shard.lengths_sha256}});
  }
  return {{"format", kFormat},
          {"vocab_size", manifest.vocab_size},
          {"token_bytes", manifest.token_bytes},
          {"end_of_text", manifest.end_of_text},
          {"tokenizer_sha256", manifest.tokenizer_sha256},
          {"documents", manifest.documents()},
          {"tokens", manifest.tokens()},
          {"shards", shards}};
}

TokenManifest read_token_manifest(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw core::error("data",
                      "cannot read {}: {}; adze data tokenize makes such folders",
                      file.string(),
                      std::strerror(errno));
  }
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const nlohmann::json json = core::parse_json(text, file.string());
  const Fields fields(json, file.string());
  if (const std::string format = fields.text("format"); format != kFormat) {
    throw core::error("data", "{}: format: expected \"{}\"", file.string(), kFormat);
  }
  TokenManifest manifest;
  manifest.vocab_size = fields.integer("vocab_size", 1, int64_t{1} << 31);
  manifest.token_bytes = fields.integer("token_bytes", 2, 4);
  if (manifest.token_bytes == 3) {
    throw core::error("data", "{}: token_bytes: expected 2 or 4, got 3", file.string());
  }
  manifest.end_of_text = fields.integer("end_of_text", 0, manifest.vocab_size - 1);
  manifest.tokenizer_sha256 = fields.text("tokenizer_sha256");
  const auto shards = json.find("shards");
  if (shards == json.end() || !shards->is_array()) {
    throw core::error("data", "{}: shards: expected a list", file.string());
  }
  constexpr int64_t kMost = int64_t{1} << 48;  // sums stay far below 2^63
  for (const nlohmann::json& entry : *shards) {
    const std::string where = fmt::format("{}: shard {}", file.string(), manifest.shards.size());
    const Fields shard(entry, where);
    manifest.shards.push_back({shard.text("name"),
                               shard.integer("documents", 0, kMost),
                               shard.integer("tokens", 0, kMost),
                               shard.text("tokens_sha256"),
                               shard.text("lengths_sha256")});
    if (!is_shard_name(manifest.shards.back().name)) {
      throw core::error("data", "{}: name: expected a-z, 0-9 and -", where);
    }
    if (manifest.shards.size() > 100'000) {
      throw core::error("data", "{}: expected at most 100000 shards", file.string());
    }
  }
  return manifest;
}

void write_token_manifest(const std::filesystem::path& file, const TokenManifest& manifest) {
  core::AtomicFile target(file);
  target.write(to_json(manifest).dump(2) + "\n");
  target.commit();
}

TokenData::TokenData(const std::filesystem::path& folder, bool verify)
    : folder_(folder), manifest_(read_token_manifest(folder / kTokenManifest)) {
  starts_.push_back(0);
  std::vector<Shard> shards;
  for (const TokenShard& shard : manifest_.shards) {
    const core::MappedFile lengths =
        open_part(folder / (shard.name + ".lengths"), shard.documents * 4);
    check_sum(lengths, shard.lengths_sha256);
    const int64_t first = starts_.back();
    for (int64_t document = 0; document < shard.documents; ++document) {
      uint32_t length = 0;
      std::memcpy(&length, lengths.bytes().data() + document * 4, 4);
      starts_.push_back(starts_.back() + length);
    }
    if (starts_.back() - first != shard.tokens) {
      throw core::error("data",
                        "{}: expected lengths that sum to {} tokens, got {}",
                        lengths.path().string(),
                        shard.tokens,
                        starts_.back() - first);
    }
    shards.push_back(
        {open_part(folder / (shard.name + ".tokens"), shard.tokens * manifest_.token_bytes),
         first});
    if (verify) {
      check_sum(shards.back().tokens, shard.tokens_sha256);
    }
  }
  shards_ = std::make_shared<const std::vector<Shard>>(std::move(shards));
}

TokenData TokenData::documents(int64_t begin, int64_t end) const {
  core::check(begin >= 0 && begin <= end && end <= num_documents(), "documents that are there");
  TokenData part = *this;
  part.starts_.assign(starts_.begin() + begin, starts_.begin() + end + 1);
  return part;
}

void TokenData::read(int64_t first, std::span<int32_t> target) const {
  core::check(
      first >= starts_.front() && first + static_cast<int64_t>(target.size()) <= starts_.back(),
      "tokens that are there");
  auto shard = std::upper_bound(
      shards_->begin(), shards_->end(), first, [](int64_t place, const Shard& entry) {
        return place < entry.first;
      });
  size_t done = 0;
  for (--shard; done < target.size(); ++shard) {
    const int64_t offset = first + static_cast<int64_t>(done) - shard->first;
    const auto bytes = shard->tokens.bytes();
    const int64_t here = static_cast<int64_t>(bytes.size()) / manifest_.token_bytes - offset;
    const auto count =
        static_cast<size_t>(std::min(here, static_cast<int64_t>(target.size() - done)));
    const std::byte* source = bytes.data() + offset * manifest_.token_bytes;
    for (size_t i = 0; i < count; ++i) {
      uint32_t id = 0;
      std::memcpy(&id,
                  source + i * static_cast<size_t>(manifest_.token_bytes),
                  static_cast<size_t>(manifest_.token_bytes));
      if (id >= static_cast<uint64_t>(manifest_.vocab_size)) {
        throw core::error("data",
                          "{}: token {}: expected an id below {}, got {}",
                          shard->tokens.path().string(),
                          offset + static_cast<int64_t>(i),
                          manifest_.vocab_size,
                          id);
      }
      target[done + i] = static_cast<int32_t>(id);
    }
    done += count;
  }
}

class TokenShardWriter::File {
 public:
  explicit File(std::filesystem::path path)
      : path_(std::move(path)), part_(path_.string() + ".part") {
    descriptor_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) {
      fail("create");
    }
  }
  ~File() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
      ::unlink(part_.c_str());
    }
  }

  void write(std::span<const std::byte> bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    if (buffer_.size() >= (size_t{1} << 20)) {
      flush();
    }
  }

  std::string finish() {
    flush();
    if (::fsync(descriptor_) != 0 || ::close(std::exchange(descriptor_, -1)) != 0 ||
        std::rename(part_.c_str(), path_.c_str()) != 0) {
      fail("write");
    }
    return hash_.finish();
  }

 private:
  void flush() {
    hash_.update(buffer_);
    if (!core::write_all(descriptor_, buffer_)) {
      fail("write");
    }
    buffer_.clear();
  }
  [[noreturn]] void fail(const char* action) const {
    throw core::error("data", "cannot {} {}: {}", action, part_, std::strerror(errno));
  }

  std::filesystem::path path_;
  std::string part_;
  int descriptor_ = -1;
  std::vector<std::byte> buffer_;
  formats::Sha256 hash_;
};

TokenShardWriter::TokenShardWriter(const std::filesystem::path& folder,
                                   std::string name,
                                   int64_t token_bytes)
    : token_bytes_(token_bytes),
      tokens_(std::make_unique<File>(folder / (name + ".tokens"))),
      lengths_(std::make_unique<File>(folder / (name + ".lengths"))) {
  shard_.name = std::move(name);
}

TokenShardWriter::~TokenShardWriter() = default;

void TokenShardWriter::append(std::span<const int32_t> document) {
  core::check(!document.empty() && document.size() <= std::numeric_limits<uint32_t>::max(),
              "1 to 2^32 - 1 tokens, got ",
              document.size());
  if (token_bytes_ == 4) {
    tokens_->write(std::as_bytes(document));
  } else {
    std::vector<uint16_t> narrow(document.size());
    std::transform(document.begin(), document.end(), narrow.begin(), [](int32_t id) {
      core::check(id >= 0 && id <= 0xFFFF, "an id of 16 bits, got ", id);
      return static_cast<uint16_t>(id);
    });
    tokens_->write(std::as_bytes(std::span(narrow)));
  }
  const auto length = static_cast<uint32_t>(document.size());
  lengths_->write(std::as_bytes(std::span(&length, 1)));
  ++shard_.documents;
  shard_.tokens += length;
}

TokenShard TokenShardWriter::finish() {
  shard_.tokens_sha256 = tokens_->finish();
  shard_.lengths_sha256 = lengths_->finish();
  return shard_;
}

}  // namespace adze::data
