// ModelStore::pull_from_hub: files gather in ROOT/.NAME.part, which becomes ROOT/NAME when all are
// there.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "core/progress.h"
#include "data/hub_digest.h"
#include "data/hub_part.h"
#include "data/model_store.h"
#include "data/model_store_manifest.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

// Beside the files: what the file system and the manifest take.
constexpr int64_t kSpareBytes = 16 << 20;

// A folder that one program at a time fills. It stays, for the next to go on.
class PartFolder {
 public:
  explicit PartFolder(fs::path path) : path_(std::move(path)) {
    fs::create_directories(path_);
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor_ < 0) {
      throw core::error("pull", "cannot open {}: {}", path_.string(), std::strerror(errno));
    }
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor_);
      throw core::error("pull", "another adze pull is filling {}", path_.string());
    }
  }
  ~PartFolder() { ::close(descriptor_); }
  PartFolder(const PartFolder&) = delete;
  PartFolder& operator=(const PartFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  int descriptor_ = -1;
};

struct Chosen {
  std::vector<HubFile> files;
  bool is_folder = false;
};

Chosen choose(const HubName& name, const std::vector<HubFile>& files, const ChooseFile& ask) {
  if (has_gguf(files)) {
    return {.files = {choose_gguf(name, files, ask)}, .is_folder = false};
  }
  if (!name.file.empty()) {
    throw core::error("pull",
                      "{} has no GGUF files to choose {} from; without :FILE it is pulled as a "
                      "folder of safetensors",
                      name.text(),
                      formats::quote_untrusted(name.file));
  }
  return {.files = choose_folder(name.text(), files), .is_folder = true};
}

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// Where the file goes below the model's folder.
std::string stored_path(const Chosen& chosen, const HubFile& file) {
  return chosen.is_folder ? file.path : last_part(file.path);
}

// One line for all files, complete when the object goes; what was here before counts neither as
// work nor as speed.
class FetchProgress {
 public:
  FetchProgress(const std::string& label, int64_t bytes)
      : unit_bytes_(bytes >= 10'000'000 ? 1'000'000 : 1000),
        line_(label, bytes / unit_bytes_, unit_bytes_ == 1000 ? "kB" : "MB") {}

  // bytes < 0: a file began anew, and is not yet as long as it was.
  void update(int64_t bytes, const std::string& note) {
    line_.update(std::max<int64_t>(bytes, 0) / unit_bytes_, note);
  }

 private:
  int64_t unit_bytes_;
  core::Progress line_;
};

void check_space(const fs::path& folder, int64_t bytes) {
  std::error_code failure;
  const auto space = fs::space(folder, failure);
  if (!failure && space.available < static_cast<uint64_t>(bytes + kSpareBytes)) {
    throw core::error("pull",
                      "expected {} free in {}, got {}",
                      megabytes_text(bytes + kSpareBytes),
                      folder.string(),
                      megabytes_text(static_cast<int64_t>(space.available)));
  }
}

// Puts a file that is here whole, from the model as it was or from an earlier attempt, into `part`.
// nullopt: it must be fetched; else its sha256.
std::optional<std::string> take_up(const HubFile& file,
                                   const std::string& path,
                                   const fs::path& part,
                                   const fs::path& folder) {
  std::string sha256;
  if (matches(part / path, file, sha256)) {
    return sha256;
  }
  std::error_code failure;
  fs::remove(part / path, failure);
  if (matches(folder / path, file, sha256)) {
    fs::create_directories((part / path).parent_path());
    fs::create_hard_link(folder / path, part / path, failure);
    if (!failure) {
      return sha256;
    }
  }
  return std::nullopt;
}

// The model is what the hub offers, and whole: nothing to do.
bool is_current(const StoredModel& known, const Chosen& chosen) {
  if (!known.problem.empty() || known.files.size() != chosen.files.size()) {
    return false;
  }
  for (size_t i = 0; i < chosen.files.size(); ++i) {
    std::string sha256;
    if (known.files[i].path != stored_path(chosen, chosen.files[i]) ||
        !matches(known.file_path(known.files[i]), chosen.files[i], sha256) ||
        sha256 != known.files[i].sha256) {
      return false;
    }
  }
  return true;
}

// Of models that are here, for the nearest name to one that no hub has.
std::vector<std::string> known_repositories(const std::vector<StoredModel>& models) {
  std::vector<std::string> repositories;
  for (const StoredModel& model : models) {
    const std::string last = model.source.substr(model.source.rfind(' ') + 1);
    if (const auto name = parse_hub_name(last)) {
      repositories.push_back(name->repository);
    }
  }
  return repositories;
}

class HubPull {
 public:
  HubPull(const HubName& name, const PullRequest& request, std::vector<std::string> known)
      : name_(name),
        request_(request),
        hub_(hub_access(),
             request.hub,
             {.stopped = request.stopped,
              .waiting = [this](std::string_view reason) { tell_pause(reason); }},
             std::move(known)) {}
  HubPull(const HubPull&) = delete;
  HubPull& operator=(const HubPull&) = delete;

  Chosen choose_files() { return choose(name_, hub_.list_files(name_), request_.choose); }

  // Name and source, no files yet.
  StoredModel describe(const Chosen& chosen) const {
    StoredModel model;
    model.is_folder = chosen.is_folder;
    const std::string& first = chosen.files.front().path;
    model.name = !request_.name.empty() ? request_.name
                 : chosen.is_folder     ? model_name_from(name_.model())
                                    : model_name_from(fs::path(last_part(first)).stem().string());
    model.source =
        fmt::format("{} {}{}", hub_.host(), name_.text(), chosen.is_folder ? "" : ":" + first);
    return model;
  }

  // Brings all files into `part` and lists them in `model`; `folder` may hold some already.
  void gather(const Chosen& chosen,
              const fs::path& part,
              const fs::path& folder,
              StoredModel& model) {
    int64_t wanted = 0;
    for (const HubFile& file : chosen.files) {
      const std::string path = stored_path(chosen, file);
      const auto sha256 = take_up(file, path, part, folder);
      model.files.push_back({.path = path, .bytes = file.bytes, .sha256 = sha256.value_or("")});
      model.bytes += file.bytes;
      if (!sha256) {
        wanted += file.bytes - std::min(file.bytes, part_size(part / path));
      }
    }
    check_space(part, wanted);
    const int64_t here = model.bytes - wanted;
    request_.notice(
        fmt::format("fetching {}: {} from {}{}",
                    model.name,
                    megabytes_text(model.bytes),
                    hub_.host(),
                    here == 0 ? "" : ", " + megabytes_text(here) + " of them are here"));
    if (wanted > 0) {
      progress_.emplace(model.name, wanted);
    }
    for (size_t i = 0; i < chosen.files.size(); ++i) {
      if (model.files[i].sha256.empty()) {
        model.files[i].sha256 = fetch(chosen.files[i],
                                      part / model.files[i].path,
                                      chosen.files.size() > 1 ? chosen.files[i].path : "");
      }
    }
    show("");
    progress_.reset();
  }

 private:
  std::string fetch(const HubFile& file, const fs::path& target, const std::string& note) {
    const int64_t before = arrived_ - std::min(file.bytes, part_size(target));
    std::string sha256 = hub_.fetch(name_, file, target, [&](int64_t bytes) {
      arrived_ = before + bytes;
      show(note);
    });
    arrived_ = before + file.bytes;
    return sha256;
  }

  void show(const std::string& note) {
    if (progress_) {
      progress_->update(arrived_, note);
    }
  }

  void tell_pause(std::string_view reason) {
    if (progress_) {
      show(std::string(reason));
    } else {
      request_.notice(reason);
    }
  }

  const HubName& name_;
  const PullRequest& request_;
  Hub hub_;
  std::optional<FetchProgress> progress_;
  int64_t arrived_ = 0;  // bytes since this pull began
};

}  // namespace

StoredModel ModelStore::pull_from_hub(const HubName& name, const PullRequest& request) const {
  HubPull pull(name, request, known_repositories(list()));
  const Chosen chosen = pull.choose_files();
  StoredModel model = pull.describe(chosen);
  const auto known = check_name(model.name, model.source);
  if (known && is_current(*known, chosen)) {
    return *known;
  }
  const PartFolder part(part_folder(model.name));
  const fs::path folder = root_ / model.name;
  pull.gather(chosen, part.path(), folder, model);

  if (known) {
    remove_files(*known);
  }
  for (const StoredFile& file : model.files) {
    fs::create_directories((folder / file.path).parent_path());
    fs::rename(part.path() / file.path, folder / file.path);
  }
  write_manifest(folder, model);
  fs::remove_all(part.path());
  model.path = model.is_folder ? folder : folder / model.files[0].path;
  return model;
}

}  // namespace adze::data
