#include "methods/dataset_decomposition/dataset_decomposition.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"
#include "core/rng.h"

namespace adze::methods::dataset_decomposition {
namespace {

std::vector<int64_t> buckets_of(const std::vector<Piece>& pieces) {
  std::vector<int64_t> buckets;
  for (const Piece& piece : pieces) {
    buckets.push_back(piece.bucket);
  }
  return buckets;
}

int64_t tokens_of(const std::vector<Piece>& pieces) {
  int64_t tokens = 0;
  for (const Piece& piece : pieces) {
    tokens += piece.tokens;
  }
  return tokens;
}

// The sheet's table 2.5: bucket list and dropped tokens.
TEST(Decomposition, GivesTheWorkedTable) {
  const DecompositionOptions options{.tail = "drop"};
  struct Row {
    int64_t length;
    std::vector<int64_t> buckets;
    int64_t dropped;
  };
  for (const Row& row : std::vector<Row>{{100, {}, 100},
                                         {257, {8}, 0},
                                         {600, {9}, 87},
                                         {1000, {9, 8}, 230},
                                         {1537, {10, 8}, 255},
                                         {3000, {11, 9, 8}, 181},
                                         {20000, {13, 13, 11, 10, 9}, 27}}) {
    const auto pieces = decompose(row.length, options);
    EXPECT_EQ(buckets_of(pieces), row.buckets) << row.length;
    EXPECT_EQ(row.length - tokens_of(pieces), row.dropped) << row.length;
  }
}

TEST(Decomposition, PiecesPartitionTheDocument) {
  core::Rng rng(1);
  for (int trial = 0; trial < 100'000; ++trial) {
    const int64_t least = 1 + static_cast<int64_t>(rng.next_uint64() % 6);
    const int64_t most = least + static_cast<int64_t>(rng.next_uint64() % 6);
    const int64_t length = static_cast<int64_t>(rng.next_uint64() % 10'000);
    const bool greedy = rng.next_uint64() % 2 == 0;
    const DecompositionOptions options{.shortest = int64_t{1} << least,
                                       .longest = int64_t{1} << most,
                                       .tail = "drop",
                                       .overlong = greedy ? "greedy" : "random"};
    int64_t place = 0;
    int64_t before = most;
    for (const Piece& piece : decompose(length, options, 7, static_cast<uint64_t>(trial))) {
      ASSERT_EQ(piece.offset, place);
      ASSERT_EQ(piece.tokens, (int64_t{1} << piece.bucket) + 1);
      ASSERT_EQ(piece.ignored, 0);
      ASSERT_GE(piece.bucket, least);
      ASSERT_LE(piece.bucket, most);
      if (greedy) {
        ASSERT_LE(piece.bucket, before);
        before = piece.bucket;
      }
      place += piece.tokens;
    }
    ASSERT_LE(place, length);
    ASSERT_LT(length - place, options.shortest + 1);
  }
}

// With overlap every token but the first of each whole piece is a target exactly once.
TEST(Decomposition, TailsAreTrainedOnce) {
  for (const char* tail : {"overlap", "pad"}) {
    for (int64_t length = 0; length < 400; ++length) {
      const DecompositionOptions options{.shortest = 16, .longest = 64, .tail = tail};
      std::map<int64_t, int> targets;
      const auto pieces = decompose(length, options);
      for (const Piece& piece : pieces) {
        ASSERT_LE(piece.offset + piece.tokens, length);
        for (int64_t row = piece.ignored; row + 1 < piece.tokens; ++row) {
          ++targets[piece.offset + row + 1];
        }
      }
      for (const auto& [target, times] : targets) {
        ASSERT_EQ(times, 1) << length << " " << target;
      }
      const bool used = length >= 17 || (std::string(tail) == "pad" && length > 1);
      ASSERT_EQ(targets.contains(length - 1), used) << tail << " " << length;
      for (int64_t place = used ? 1 : length; place < length; ++place) {
        const bool begins_piece =
            std::any_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
              return piece.offset == place && piece.ignored == 0;
            });
        ASSERT_TRUE(targets.contains(place) || begins_piece) << length << " " << place;
      }
    }
  }
}

// 2.3: P(k) is proportional to 2^(M - k); the mean piece of m = 8, M = 13 has 6 * 2^13 / 63 tokens.
TEST(Decomposition, RandomPiecesOfLongDocumentsFollowTheirLaw) {
  const DecompositionOptions options{.tail = "drop", .overlong = "random"};
  std::map<int64_t, double> counts;
  double all = 0;
  for (uint64_t document = 0; document < 50; ++document) {
    const int64_t length = 1'000'000;
    for (const Piece& piece : decompose(length, options, 3, document)) {
      if (length - piece.offset > 16'384) {
        ++counts[piece.bucket];
        ++all;
      }
    }
  }
  for (int64_t bucket = 8; bucket <= 13; ++bucket) {
    const double expected = std::exp2(static_cast<double>(13 - bucket)) / 63;
    EXPECT_NEAR(counts[bucket] / all, expected, 4 * std::sqrt(expected / all)) << bucket;
  }
}

// Section 6.3: the sheet's means in closed form.
TEST(Statistics, ReproduceThePapersTable) {
  const auto expect = [](std::vector<double> tokens, int64_t first, double length, double context) {
    const LengthStatistics statistics = length_statistics(tokens, first);
    EXPECT_NEAR(statistics.mean_length, length, 0.005);
    EXPECT_NEAR(statistics.mean_context, context, 0.005);
  };
  expect({3, 6, 10, 17, 21, 17, 13, 9}, 6, 482.18, 1017.83);
  expect({12, 12, 12, 12, 12, 12, 12, 12}, 6, 257.00, 1019.5);
  expect({96}, 10, 1024, 511.5);
  expect({16, 16, 16, 16, 16, 16}, 6, 195.05, 335.5);
  expect({16, 16, 16, 16, 16, 16}, 8, 780.19, 1343.5);
  expect({96}, 13, 8192, 4095.5);
  EXPECT_EQ(length_statistics({}, 6).mean_length, 0);
}

TEST(Curriculum, OddsAreThoseOfTheTable) {
  EXPECT_EQ(curriculum_odds("uniform", 3), (std::vector<uint64_t>{1, 1, 1}));
  EXPECT_EQ(curriculum_odds("grow-linear", 6), (std::vector<uint64_t>{6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(curriculum_odds("grow-p2", 6), (std::vector<uint64_t>{32, 16, 8, 4, 2, 1}));
  EXPECT_EQ(curriculum_odds("grow-p100", 3), (std::vector<uint64_t>{10'000, 100, 1}));
  EXPECT_EQ(curriculum_odds("shrink-p100", 3), (std::vector<uint64_t>{1, 100, 10'000}));
  EXPECT_THROW(curriculum_odds("grow", 3), core::InvalidOption);
  EXPECT_THROW(curriculum_odds("grow-p100", 10), core::InvalidOption);
}

// Section 2.10: the sheet's vectors, buckets {8, 9, 10} of 4 batches each, seed 42.
TEST(Curriculum, PlansAreTheVectors) {
  const std::vector<int64_t> batches = {4, 4, 4};
  const auto plan = [&](std::vector<uint64_t> odds, int64_t cycles) {
    std::vector<int> buckets;
    for (const uint8_t bucket : plan_buckets(batches, odds, cycles, 42)) {
      buckets.push_back(bucket + 8);
    }
    return buckets;
  };
  EXPECT_EQ(plan({4, 2, 1}, 1), (std::vector{9, 8, 8, 8, 8, 10, 9, 10, 9, 9, 10, 10}));
  EXPECT_EQ(plan({4, 2, 1}, 2), (std::vector{9, 8, 8, 9, 10, 10, 8, 9, 8, 9, 10, 10}));
  EXPECT_EQ(plan({1, 1, 1}, 1), (std::vector{10, 8, 8, 9, 8, 10, 8, 10, 9, 10, 9, 9}));
}

TEST(Curriculum, FirstDrawsFollowTheOdds) {
  const std::vector<int64_t> batches(6, 10);
  for (const char* name : {"uniform", "grow-linear", "grow-p2"}) {
    const auto odds = curriculum_odds(name, 6);
    double all = 0;
    for (const uint64_t odd : odds) {
      all += static_cast<double>(odd);
    }
    std::vector<double> counts(6);
    constexpr int kTrials = 20'000;
    for (uint64_t seed = 0; seed < kTrials; ++seed) {
      ++counts[plan_buckets(batches, odds, 1, seed)[0]];
    }
    double chi_square = 0;
    for (size_t i = 0; i < 6; ++i) {
      const double expected = kTrials * static_cast<double>(odds[i]) / all;
      chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi_square, 20.5) << name;  // 5 degrees of freedom: 0.1 % lie above
  }
}

TEST(Curriculum, PowersOfAHundredAreSortedByLength) {
  const std::vector<int64_t> batches = {5, 5, 5};
  const auto plan = plan_buckets(batches, curriculum_odds("grow-p100", 3), 1, 1);
  EXPECT_LE(plan[0], plan[7]);
  EXPECT_EQ(plan.back(), 2);
  EXPECT_EQ(plan.size(), 15U);
}

class Data {
 public:
  explicit Data(const std::vector<int64_t>& lengths) {
    std::string name = (std::filesystem::temp_directory_path() / "adze-dd-XXXXXX").string();
    core::check(::mkdtemp(name.data()) != nullptr, "a folder");
    path_ = name;
    data::TokenManifest manifest{.vocab_size = 1 << 20, .token_bytes = 4};
    data::TokenShardWriter writer(path_, "a", 4);
    int32_t next = 0;
    for (const int64_t length : lengths) {
      std::vector<int32_t> document;
      for (int64_t i = 0; i < length; ++i) {
        document.push_back(next++);
      }
      writer.append(document);
    }
    manifest.shards.push_back(writer.finish());
    data::write_token_manifest(path_ / data::kTokenManifest, manifest);
    data_ = std::make_unique<data::TokenData>(path_, true);
  }
  ~Data() { std::filesystem::remove_all(path_); }
  const data::TokenData& operator*() const { return *data_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<data::TokenData> data_;
};

std::vector<int64_t> long_tailed(int64_t count) {
  core::Rng rng(4);
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < count; ++i) {
    lengths.push_back(static_cast<int64_t>(20 * std::exp(3 * rng.next_uniform())) + 2);
  }
  return lengths;
}

TEST(Source, StepsAreOfOneBucketAndUseEverySequenceOnce) {
  const Data data(long_tailed(400));
  const SourceOptions options{.shortest = 16,
                              .longest = 128,
                              .mixture = "natural",
                              .curriculum = "grow-linear",
                              .cycles = 2};
  const int64_t step_tokens = 256;
  int64_t sequences = 0;
  int64_t steps = 0;
  for (const BucketCount& count : count_buckets(*data, options.decomposition())) {
    sequences += count.sequences;
    steps += count.sequences * count.rows / step_tokens;
  }
  const auto source =
      make_source(*data, {.step_tokens = step_tokens, .steps = steps, .seed = 5}, options);
  std::map<std::pair<int64_t, int64_t>, int> seen;
  for (int64_t step = 0; step < steps; ++step) {
    const auto plan = source->plan(step);
    int64_t rows = 0;
    for (const auto& sequence : plan) {
      ASSERT_EQ(sequence.rows(), plan[0].rows());
      rows += sequence.rows();
      ++seen[{sequence.ranges[0].first, sequence.rows()}];
    }
    ASSERT_EQ(rows, step_tokens);
  }
  for (const auto& [key, times] : seen) {
    ASSERT_LE(times, 1 + (seen.size() < static_cast<size_t>(sequences) ? 1 : 0));
  }
  EXPECT_GT(seen.size(), static_cast<size_t>(sequences) * 9 / 10);
  // Any step can be planned by itself, and a longer run begins again with other sequences.
  const auto again =
      make_source(*data, {.step_tokens = step_tokens, .steps = steps, .seed = 5}, options);
  for (const int64_t step : {steps - 1, int64_t{0}, steps + 3}) {
    EXPECT_EQ(again->plan(step)[0].ranges[0].first, source->plan(step)[0].ranges[0].first);
  }
}

TEST(Source, MixturesSetTheShares) {
  const Data data(long_tailed(400));
  const auto steps_of = [&](const std::string& mixture) {
    SourceOptions options{.shortest = 16, .longest = 128, .mixture = mixture};
    const auto source = make_source(*data, {.step_tokens = 256, .steps = 80, .seed = 5}, options);
    std::vector<int64_t> steps;
    const auto description = source->describe();
    for (const auto& bucket : description["buckets"]) {
      steps.push_back(bucket["steps"].get<int64_t>());
    }
    return steps;
  };
  EXPECT_EQ(steps_of("equal"), (std::vector<int64_t>{20, 20, 20, 20}));
  EXPECT_EQ(steps_of("0/1/0/3"), (std::vector<int64_t>{0, 20, 0, 60}));
  for (const char* wrong : {"", "1/2/3", "1/2/3/4/5", "1/2/x/4", "1/2/-3/4", "nan/1/1/1"}) {
    EXPECT_THROW(steps_of(wrong), core::UsageError) << wrong;
  }
}

TEST(Source, WrongOptionsAndDataAreNamed) {
  const Data data({40, 50});
  const auto message = [&](const std::string& text, int64_t step_tokens) -> std::string {
    const auto entry = batch_source_entry();
    try {
      entry.make(*data,
                 {.step_tokens = step_tokens, .steps = 4, .seed = 1},
                 core::parse_keys("dataset-decomposition", text, entry.defaults));
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message("longest=8192", 4096).find("divisor of the 4096"), std::string::npos);
  EXPECT_NE(message("shortest=100", 8192).find("power of two"), std::string::npos);
  EXPECT_NE(message("shortest=64,longest=32", 8192).find("from shortest"), std::string::npos);
  EXPECT_NE(message("tail=cut", 8192).find("overlap, drop or pad"), std::string::npos);
  EXPECT_NE(message("cycles=0", 8192).find("1 to 100000"), std::string::npos);
  EXPECT_NE(message("", 8192).find("at least 257 tokens, got none"), std::string::npos);
  EXPECT_NE(message("mixture=equal,shortest=16", 8192).find("got none"), std::string::npos);
  EXPECT_EQ(message("shortest=16", 8192), "");
}

}  // namespace
}  // namespace adze::methods::dataset_decomposition
