#include "data/batch_source.h"

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"
#include "core/rng.h"

namespace adze::data {
namespace {

// Token data whose k-th token is k, so that a token tells its place.
class CountingData {
 public:
  explicit CountingData(const std::vector<int64_t>& lengths) {
    std::string name = (std::filesystem::temp_directory_path() / "adze-batch-XXXXXX").string();
    core::check(::mkdtemp(name.data()) != nullptr, "a folder");
    path_ = name;
    TokenManifest manifest{.vocab_size = 1 << 20, .token_bytes = 4};
    // Two shards, so that reads cross them.
    int32_t next = 0;
    for (size_t part = 0; part < 2; ++part) {
      TokenShardWriter writer(path_, part == 0 ? "a" : "b", 4);
      const size_t half = lengths.size() / 2;
      for (size_t i = part * half; i < (part == 0 ? half : lengths.size()); ++i) {
        std::vector<int32_t> document;
        for (int64_t j = 0; j < lengths[i]; ++j) {
          document.push_back(next++);
        }
        writer.append(document);
      }
      manifest.shards.push_back(writer.finish());
    }
    write_token_manifest(path_ / kTokenManifest, manifest);
    data_ = std::make_unique<TokenData>(path_, true);
  }
  ~CountingData() { std::filesystem::remove_all(path_); }
  const TokenData& operator*() const { return *data_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<TokenData> data_;
};

std::vector<int64_t> random_lengths(int64_t count, uint64_t seed) {
  core::Rng rng(seed);
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) {
    lengths.push_back(1 + static_cast<int64_t>(rng.next_uint64() % 90));
  }
  return lengths;
}

int64_t document_of(const TokenData& data, int64_t place) {
  int64_t document = 0;
  while (data.start(document + 1) <= place) {
    ++document;
  }
  return document;
}

TEST(Batches, ReadAcrossShardsAndShiftTargets) {
  const CountingData data({5, 3, 4, 6});
  const std::vector<TrainingSequence> sequences = {{{{6, 4}}, 0}, {{{0, 2}, {15, 2}}, 2}};
  const TokenBatch batch = read_batch(*data, sequences);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{6, 7, 8, 0, 1, 15}));
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{7, 8, 9, -1, -1, 16}));
  EXPECT_EQ(batch.sequence_starts, (std::vector<int64_t>{0, 3, 6}));
  EXPECT_EQ(batch.num_targets, 4);
}

TEST(Batches, MicroBatchesKeepOrderAndLimit) {
  const std::vector<TrainingSequence> sequences = {
      {{{0, 5}}, 0}, {{{0, 5}}, 0}, {{{0, 20}}, 0}, {{{0, 3}}, 0}, {{{0, 3}}, 0}};
  std::vector<size_t> sizes;
  for (const auto& part : micro_batches(sequences, 8)) {
    sizes.push_back(part.size());
  }
  EXPECT_EQ(sizes, (std::vector<size_t>{2, 1, 2}));
}

TEST(Batches, ConcatReadsEveryTargetOnceAnEpoch) {
  const CountingData data(random_lengths(60, 1));
  const int64_t length = 32;
  const auto source =
      make_batch_source("concat:length=32", *data, {.step_tokens = 96, .steps = 5, .seed = 3});
  const int64_t steps = ((*data).num_tokens() - 1) / length / 3;
  std::vector<std::set<int32_t>> epochs;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int32_t> seen;
    for (int64_t step = 0; step < steps; ++step) {
      const auto plan = source->plan(epoch * steps + step);
      const TokenBatch batch = read_batch(*data, plan);
      ASSERT_EQ(batch.tokens.size(), 96U);
      ASSERT_EQ(batch.num_targets, 96);
      for (const int32_t target : batch.targets) {
        ASSERT_TRUE(seen.insert(target).second);
      }
    }
    epochs.push_back(seen);
  }
  EXPECT_NE(epochs[0], epochs[1]);  // another order of documents
}

TEST(Batches, MaskedPartsStayWithinDocuments) {
  const CountingData data(random_lengths(60, 2));
  for (const char* name : {"concat:length=32,mask=true", "pack:length=32"}) {
    const auto source = make_batch_source(name, *data, {.step_tokens = 64, .steps = 5, .seed = 3});
    std::map<int32_t, int> seen;
    for (int64_t step = 0; step < 8; ++step) {
      const auto plan = source->plan(step);
      int64_t tokens = 0;
      for (const TrainingSequence& sequence : plan) {
        ASSERT_EQ(sequence.ranges.size(), 1U);
        const TokenRange& range = sequence.ranges[0];
        ASSERT_EQ(document_of(*data, range.first),
                  document_of(*data, range.first + range.count - 1));
        tokens += range.count;
      }
      EXPECT_LE(tokens, 66);
      for (const int32_t target : read_batch(*data, plan).targets) {
        ++seen[target];
      }
    }
    for (const auto& [target, times] : seen) {
      ASSERT_EQ(times, 1) << name;
    }
  }
}

TEST(Batches, PackUsesAllTokensAndFillsWell) {
  const auto lengths = random_lengths(200, 5);
  const CountingData data(lengths);
  const auto source =
      make_batch_source("pack:length=64", *data, {.step_tokens = 64, .steps = 5, .seed = 3});
  const auto packs = source->describe()["packs"].get<int64_t>();
  int64_t tokens = 0;
  for (int64_t step = 0; step < packs; ++step) {
    int64_t here = 0;
    for (const TrainingSequence& sequence : source->plan(step)) {
      here += sequence.ranges[0].count;
    }
    ASSERT_LE(here, 64);
    tokens += here;
  }
  // Parts of a single token have nothing to predict.
  int64_t expected = 0;
  for (const int64_t length : lengths) {
    expected += length % 64 == 1 ? length - 1 : length;
  }
  EXPECT_EQ(tokens, expected);
  EXPECT_LT(packs, expected / 64 + expected / 640 + 2);  // under a tenth of the room is empty
}

TEST(Batches, PlansDependOnSeedAndStepAlone) {
  const CountingData data(random_lengths(80, 4));
  for (const char* name : {"concat:length=16", "concat:length=16,mask=true", "pack:length=16"}) {
    const auto first_tokens = [&](uint64_t seed, const std::vector<int64_t>& steps) {
      const auto source =
          make_batch_source(name, *data, {.step_tokens = 64, .steps = 9, .seed = seed});
      std::vector<std::vector<int32_t>> batches;
      for (const int64_t step : steps) {
        batches.push_back(read_batch(*data, source->plan(step)).tokens);
      }
      return batches;
    };
    const auto straight = first_tokens(1, {0, 1, 2, 3, 400});
    EXPECT_EQ(first_tokens(1, {400, 3})[0], straight[4]);
    EXPECT_EQ(first_tokens(1, {3})[0], straight[3]);
    EXPECT_NE(first_tokens(2, {0})[0], straight[0]);
    EXPECT_NE(straight[0], straight[1]);
  }
}

TEST(Batches, WrongOptionsAreNamed) {
  const CountingData data({40, 40});
  const BatchRequest request{.step_tokens = 64, .steps = 5, .seed = 1};
  const auto message = [&](const char* text) -> std::string {
    try {
      make_batch_source(text, *data, request);
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("concta").find("did you mean concat?"), std::string::npos);
  EXPECT_NE(message("concat:lenght=3").find("length=512"), std::string::npos);
  EXPECT_NE(message("concat:length=48").find("divisor of the 64 tokens"), std::string::npos);
  EXPECT_NE(message("concat:length=0").find("1 to 1048576"), std::string::npos);
  EXPECT_NE(message("concat:length=true").find("integer"), std::string::npos);
  EXPECT_NE(message("pack:length=1").find("2 to 1048576"), std::string::npos);
  const CountingData small({10, 10});
  try {
    make_batch_source("concat:length=32", *small, request);
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find("got 20 tokens"), std::string::npos) << error.what();
  }
}

TEST(Batches, ShufflesArePermutationsThatDiffer) {
  const auto order = shuffled(1000, 1, 2);
  EXPECT_EQ(std::set(order.begin(), order.end()).size(), 1000U);
  EXPECT_EQ(order, shuffled(1000, 1, 2));
  EXPECT_NE(order, shuffled(1000, 1, 3));
  EXPECT_NE(order, shuffled(1000, 2, 2));
  EXPECT_TRUE(shuffled(0, 1, 1).empty());
}

}  // namespace
}  // namespace adze::data
