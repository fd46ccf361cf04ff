#include "data/hub_digest.h"

#include <array>
#include <fstream>
#include <utility>
#include <vector>

#include <openssl/evp.h>

#include "core/error.h"

namespace adze::data {
namespace {

void require(bool succeeded) {
  if (!succeeded) {
    throw core::error("checksum", "the cryptography library failed, out of memory perhaps");
  }
}

class Hash {
 public:
  explicit Hash(const EVP_MD* algorithm) : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    require(context_ != nullptr && EVP_DigestInit_ex(context_.get(), algorithm, nullptr) == 1);
  }

  void update(std::span<const std::byte> bytes) {
    require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }

  std::string finish() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest = {};
    unsigned int size = 0;
    require(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1);
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
      text += fmt::format("{:02x}", digest[i]);
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

struct FileDigest::State {
  explicit State(const HubFile& stated) : file(stated) {
    if (!file.git_blob.empty()) {
      const std::string header = fmt::format("blob {}", file.bytes);
      git_blob = std::make_unique<Hash>(EVP_sha1());
      git_blob->update(std::as_bytes(std::span(header.c_str(), header.size() + 1)));
    }
  }

  HubFile file;
  Hash sha256{EVP_sha256()};
  std::unique_ptr<Hash> git_blob;  // a second pass over the bytes: only where it is compared
};

FileDigest::FileDigest(const HubFile& file) : state_(std::make_unique<State>(file)) {}
FileDigest::~FileDigest() = default;
FileDigest::FileDigest(FileDigest&&) noexcept = default;
FileDigest& FileDigest::operator=(FileDigest&&) noexcept = default;

void FileDigest::update(std::span<const std::byte> bytes) {
  state_->sha256.update(bytes);
  if (state_->git_blob) {
    state_->git_blob->update(bytes);
  }
}

DigestResult FileDigest::finish() {
  DigestResult result{.sha256 = state_->sha256.finish(), .problem = ""};
  const HubFile& file = state_->file;
  if (!file.sha256.empty() && file.sha256 != result.sha256) {
    result.problem = fmt::format("expected sha256 {}, got {}", file.sha256, result.sha256);
  } else if (state_->git_blob) {
    const std::string git_blob = state_->git_blob->finish();
    if (git_blob != file.git_blob) {
      result.problem = fmt::format("expected git object {}, got {}", file.git_blob, git_blob);
    }
  }
  return result;
}

bool matches(const std::filesystem::path& path, const HubFile& file, std::string& sha256) {
  std::error_code failure;
  if ((file.sha256.empty() && file.git_blob.empty()) ||
      !std::filesystem::is_regular_file(path, failure) ||
      static_cast<int64_t>(std::filesystem::file_size(path, failure)) != file.bytes || failure) {
    return false;
  }
  FileDigest digest(file);
  std::ifstream stream(path, std::ios::binary);
  std::vector<char> buffer(size_t{1} << 20);
  while (stream) {
    stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    digest.update(std::as_bytes(std::span(buffer.data(), static_cast<size_t>(stream.gcount()))));
  }
  DigestResult result = digest.finish();
  sha256 = std::move(result.sha256);
  return result.problem.empty();
}

}  // namespace adze::data
