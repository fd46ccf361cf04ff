// The forward pass against transformers, for small models of every architecture
// (tests/golden/models): the logits of whole and of chunked prompts, from both spellings of the
// configuration, from Hugging Face folders and from the GGUF files that they become.

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "model/checkpoint.h"
#include "model/convert.h"
#include "model/load_model.h"
#include "tests/support/golden_model.h"
#include "tests/support/golden_outputs.h"
#include "tests/support/temporary_folder.h"

namespace adze {
namespace {

// The sums of both sides are rounded differently; an exact for a tanh GELU would show as 9e-4.
constexpr double kTolerance = 2e-4;

class ArchitectureTest : public testing::TestWithParam<std::string> {
 protected:
  void expect_golden(const std::filesystem::path& path, const std::string& what) const {
    const auto loaded = model::load_model(model::open_checkpoint(path), kernels::Arithmetic::kF32);
    for (const golden::GoldenSequence& sequence : golden_.sequences) {
      const auto whole = golden::outputs(*loaded, sequence.tokens, 1 << 20);
      EXPECT_LT(golden::largest_difference(golden_, sequence, whole), kTolerance) << what;
      if (loaded->spec.causal) {
        EXPECT_EQ(golden::outputs(*loaded, sequence.tokens, 7), whole)
            << what << ", in chunks of 7";
      }
    }
  }

  support::TemporaryFolder folder_;
  golden::GoldenModel golden_ = golden::read_golden(GetParam());
};

TEST_P(ArchitectureTest, GivesTheLogitsOfTransformers) {
  golden::write_hugging_face_folder(golden_, folder_.path() / "now");
  expect_golden(folder_.path() / "now", "config.json");
  golden::write_hugging_face_folder(
      golden_, folder_.path() / "published", core::TensorType::kF32, "config_published.json");
  expect_golden(folder_.path() / "published", "config_published.json");
}

TEST_P(ArchitectureTest, GivesTheSameLogitsAsGguf) {
  golden::write_hugging_face_folder(golden_, folder_.path() / "hf");
  golden::write_tokenizer(folder_.path() / "hf");
  const auto file = folder_.path() / "model.gguf";
  model::write_gguf_model(model::open_checkpoint(folder_.path() / "hf"), {}, file);
  expect_golden(file, "GGUF");
  model::write_hugging_face_model(
      model::open_checkpoint(file), core::TensorType::kF32, folder_.path() / "back");
  expect_golden(folder_.path() / "back", "back from GGUF");
}

// Loads a file whose bytes were changed: an Error, or a model that computes something.
void load_and_run(const std::filesystem::path& path, const golden::GoldenSequence& sequence) {
  try {
    const auto loaded = model::load_model(model::open_checkpoint(path), kernels::Arithmetic::kF32);
    std::vector<int32_t> tokens = sequence.tokens;
    for (int32_t& token : tokens) {
      token %= static_cast<int32_t>(loaded->spec.vocab_size);
    }
    golden::outputs(*loaded, tokens, 16);
  } catch (const core::Error&) {
    return;
  }
}

TEST_P(ArchitectureTest, DamagedFilesNeverDoMoreThanFail) {
  const auto hf = folder_.path() / "hf";
  golden::write_hugging_face_folder(golden_, hf);
  golden::write_tokenizer(hf);
  const auto file = folder_.path() / "model.gguf";
  model::write_gguf_model(model::open_checkpoint(hf), "q4_k_m", file);
  core::Rng rng(7);
  for (const auto& path : {file, hf / "model.safetensors", hf / "config.json"}) {
    const std::string bytes = golden::read_text(path);
    for (int trial = 0; trial < 25; ++trial) {
      std::string damaged = bytes;
      // Headers stand in front: half of the changes go there.
      const size_t range = trial % 2 == 0 ? std::min<size_t>(bytes.size(), 4096) : bytes.size();
      for (int change = 0; change <= trial % 4; ++change) {
        damaged[rng.next_uint64() % range] = static_cast<char>(rng.next_uint64());
      }
      golden::write_text(path, damaged);
      load_and_run(path == file ? file : hf, golden_.sequences.front());
    }
    golden::write_text(path, bytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden,
                         ArchitectureTest,
                         testing::ValuesIn(golden::golden_names()),
                         [](const auto& entry) { return entry.param; });

}  // namespace
}  // namespace adze
