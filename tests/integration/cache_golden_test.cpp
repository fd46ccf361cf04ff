// The methods of the cache, step by step, against derivations in float64 that know nothing of adze:
// src/methods/{decoquant,pyramid_infer,sirllm}/golden/make_golden.py.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/state_stream.h"
#include "infer/append_tokens.h"
#include "kv/cache_registry.h"
#include "methods/decoquant/decoquant.h"
#include "methods/pyramid_infer/pyramid_infer.h"
#include "methods/register_methods.h"
#include "model/checkpoint.h"
#include "model/forward.h"
#include "model/load_model.h"
#include "tests/support/golden_model.h"
#include "tests/support/temporary_folder.h"

namespace adze {
namespace {

using Positions = std::vector<int32_t>;
const std::filesystem::path kMethods = "src/methods";
constexpr double kTolerance = 2e-4;  // of logits, as for models without a method

nlohmann::json read_json(const std::filesystem::path& path) {
  return core::parse_json(golden::read_text(path), path.string());
}

class CacheGolden : public testing::Test {
 protected:
  void SetUp() override { methods::register_methods(); }
};

// A golden model in a cache of its own.
struct GoldenCache {
  support::TemporaryFolder folder;
  golden::GoldenModel golden;
  nlohmann::json json;
  model::ModelPtr model;
  kv::Rotation rotation;
  kv::PagePool pool{int64_t{1} << 28};
  kv::Sequence sequence;
  size_t rows_compared = 0;

  explicit GoldenCache(const std::filesystem::path& source)
      : golden(golden::read_golden(source.filename().string(), source.parent_path())),
        json(read_json(source / "golden.json")),
        model(written_and_loaded()),
        rotation(model->spec, 512),
        sequence(pool,
                 kv::make_store("f32", model->spec),
                 kv::make_policy(json.at("policy").get<std::string>()),
                 kv::make_cache_layout(model->spec)) {}

  model::ModelPtr written_and_loaded() const {
    golden::write_hugging_face_folder(golden, folder.path());
    return model::load_model(model::open_checkpoint(folder.path()), kernels::Arithmetic::kF32);
  }

  // Appends tokens and compares the logits of every row that golden.json names.
  void append(const std::vector<int32_t>& tokens, int64_t chunk) {
    infer::append_tokens(
        *model, rotation, sequence, tokens, chunk, [&](int64_t, const at::Tensor& hidden) {
          const at::Tensor rows = model::logits(*model, hidden);
          // Of a prompt that narrows the last rows are left.
          for (int64_t row = 0; row < rows.size(0); ++row) {
            compare(sequence.num_tokens() - rows.size(0) + row,
                    rows.const_data_ptr<float>() + row * rows.size(1));
          }
        });
  }

  void compare(int64_t row, const float* logits) {
    const golden::GoldenSequence& expected = golden.only_sequence();
    const auto found = std::find(expected.rows.begin(), expected.rows.end(), row);
    if (found == expected.rows.end()) {
      return;
    }
    ++rows_compared;
    const int64_t first = (found - expected.rows.begin()) * golden.width;
    for (int64_t i = 0; i < golden.width; ++i) {
      ASSERT_NEAR(logits[i], expected.expected[static_cast<size_t>(first + i)], kTolerance)
          << "row " << row << ", logit " << i;
    }
  }

  void expect_all_rows_compared() const {
    EXPECT_EQ(rows_compared, golden.only_sequence().rows.size());
  }
};

// [12 §2.2] to [12 §2.5], a turn at a time, in steps of any size.
TEST_F(CacheGolden, SirLlmKeepsAndScoresWhatTheDerivationDoes) {
  for (const int64_t chunk : {1, 7, 64}) {
    GoldenCache cache(kMethods / "sirllm/golden/turns");
    for (const auto& turn : cache.json.at("turns")) {
      const auto tokens = turn.at("tokens").get<std::vector<int32_t>>();
      cache.sequence.begin_turn(static_cast<int64_t>(tokens.size()), 0);
      EXPECT_EQ(cache.sequence.positions(0), turn.at("after_eviction").get<Positions>());
      cache.append(tokens, chunk);
      for (int64_t slot = 0; slot < cache.sequence.num_slots(); ++slot) {
        EXPECT_EQ(cache.sequence.positions(slot), turn.at("positions").get<Positions>());
      }
      core::StateWriter writer;
      cache.sequence.policy_state().save(writer);
      core::StateReader reader("memory", writer.buffer());
      const auto scores = reader.list<float>();
      const auto expected = turn.at("scores").get<std::vector<double>>();
      ASSERT_EQ(scores.size(), expected.size());
      for (size_t i = 0; i < scores.size(); ++i) {
        EXPECT_NEAR(scores[i], expected[i], 1e-4) << "token " << i;
      }
    }
    cache.expect_all_rows_compared();
  }
}

// [11 §2.3] and [11 §2.5]: which tokens each layer holds.
TEST_F(CacheGolden, PyramidInferNarrowsAndCompressesAsTheDerivationDoes) {
  for (const char* name : {"released", "ours"}) {
    GoldenCache cache(kMethods / "pyramid_infer/golden" / name);
    const auto tokens = cache.json.at("tokens").get<std::vector<int32_t>>();
    const auto prompt = cache.json.at("prompt").get<int64_t>();
    const auto answer = static_cast<int64_t>(tokens.size()) - prompt;
    const auto expect_positions = [&](const char* when) {
      for (int64_t slot = 0; slot < cache.sequence.num_slots(); ++slot) {
        EXPECT_EQ(cache.sequence.positions(slot),
                  cache.json.at(when).at(static_cast<size_t>(slot)).get<Positions>())
            << name << " " << when << ", layer " << slot;
      }
    };
    cache.sequence.begin_turn(prompt, answer);
    cache.append({tokens.begin(), tokens.begin() + prompt}, 64);
    expect_positions("after_prompt");
    cache.append({tokens.begin() + prompt, tokens.end()}, 1);
    expect_positions("after_answer");
    cache.expect_all_rows_compared();
  }
}

// [11 §2.3 step 2 d] and [11 §2.4] for many prompts.
TEST_F(CacheGolden, PyramidInferLengthsAndSolvedDecays) {
  namespace pyramid = methods::pyramid_infer;
  const auto golden = read_json(kMethods / "pyramid_infer/golden/lengths.json");
  for (const auto& entry : golden.at("lengths")) {
    const auto expected = entry.at("lengths").get<std::vector<int64_t>>();
    EXPECT_EQ(pyramid::layer_lengths(pyramid::preset(entry.at("preset").get<std::string>()),
                                     entry.at("prompt").get<int64_t>(),
                                     static_cast<int64_t>(expected.size()) - 1),
              expected)
        << entry.dump();
  }
  for (const auto& entry : golden.at("solutions")) {
    EXPECT_NEAR(pyramid::solve_decay(pyramid::preset(entry.at("preset").get<std::string>()),
                                     entry.at("share").get<double>(),
                                     entry.at("prompt").get<int64_t>(),
                                     entry.at("layers").get<int64_t>()),
                entry.at("decay").get<double>(),
                1e-9)
        << entry.dump();
  }
}

// Keys or values of the derivation [kv_heads, 256, head_dim]: channels of unequal width and mean.
std::vector<float> deco_numbers(const char* name, int64_t kv_heads, int64_t head_dim) {
  std::vector<float> numbers = golden::golden_values({name, {kv_heads, 256, head_dim}, 0.0F, 1.0F});
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto channel = static_cast<int64_t>(i) % head_dim;
    const float width = channel % 8 == 3 ? 6.0F : 0.5F + static_cast<float>(channel) / 64.0F;
    numbers[i] = numbers[i] * width + (channel % 5 == 1 ? 2.0F : 0.0F);
  }
  return numbers;
}

struct DecoPage {
  const kernels::PageCodec& codec;
  std::vector<std::byte> side;
  std::vector<std::byte> page;
  int64_t number;
  int64_t head_dim;

  // Keys of all heads, then values, as they were given: [kv_heads, 32, head_dim] each.
  std::vector<float> decode(int64_t kv_heads) const {
    const auto size = static_cast<size_t>(kernels::kPageTokens * head_dim);
    std::vector<float> keys;
    std::vector<float> values;
    for (int64_t head = 0; head < kv_heads; ++head) {
      std::vector<float> tile(size);
      codec.decode_keys(page.data(), number, side.data(), head, tile.data());
      if (codec.changes_keys()) {
        std::vector<float> coded = tile;
        codec.keys_from_basis(side.data(), head, coded.data(), tile.data());
      }
      for (size_t i = 0; i < size; ++i) {  // transposed
        const auto token = static_cast<int64_t>(i) / head_dim;
        const auto dim = static_cast<int64_t>(i) % head_dim;
        keys.push_back(tile[static_cast<size_t>(dim * kernels::kPageTokens + token)]);
      }
      codec.decode_values(page.data(), number, side.data(), head, tile.data());
      std::vector<float> back = tile;
      if (codec.changes_values()) {
        codec.values_from_basis(side.data(), head, kernels::kPageTokens, tile.data(), back.data());
      }
      values.insert(values.end(), back.begin(), back.end());
    }
    keys.insert(keys.end(), values.begin(), values.end());
    return keys;
  }
};

// [10 §2.1] to [10 §2.3] and [10 §2.8]: what is left of a page.
TEST_F(CacheGolden, DecoQuantRebuildsWhatTheDerivationDoes) {
  namespace deco = methods::decoquant;
  const auto golden = read_json(kMethods / "decoquant/golden/golden.json");
  const auto expected = golden::read_floats(kMethods / "decoquant/golden/expected.bin");
  const auto kv_heads = golden.at("kv_heads").get<int64_t>();
  const auto head_dim = golden.at("head_dim").get<int64_t>();
  const auto every = golden.at("every").get<size_t>();
  const std::vector<float> keys = deco_numbers("deco key", kv_heads, head_dim);
  const std::vector<float> values = deco_numbers("deco value", kv_heads, head_dim);
  const auto page_of = [&](const std::vector<float>& numbers, int64_t number) {
    std::vector<float> page;
    for (int64_t head = 0; head < kv_heads; ++head) {
      const auto first = numbers.begin() + (head * 256 + number * kernels::kPageTokens) * head_dim;
      page.insert(page.end(), first, first + kernels::kPageTokens * head_dim);
    }
    return page;
  };
  size_t place = 0;
  for (const auto& entry : golden.at("cases")) {
    const auto form = entry.at("form").get<std::string>();
    const auto bits = entry.at("bits").get<int64_t>();
    const auto number = entry.at("page").get<int64_t>();
    const auto codec =
        form == "plus"
            ? deco::make_plus_codec(kv_heads, head_dim, bits)
            : deco::make_paper_codec(
                  kv_heads, head_dim, bits, form == "b", golden.at("chunk").get<int64_t>());
    DecoPage page{.codec = *codec,
                  .side = std::vector<std::byte>(static_cast<size_t>(codec->side_bytes())),
                  .page = std::vector<std::byte>(static_cast<size_t>(codec->page_bytes())),
                  .number = number,
                  .head_dim = head_dim};
    codec->make_side(keys.data(), values.data(), page.side.data());
    codec->encode(page_of(keys, number).data(),
                  page_of(values, number).data(),
                  number,
                  page.side.data(),
                  page.page.data());
    const std::vector<float> found = page.decode(kv_heads);
    for (size_t i = 0; i < found.size(); i += every) {
      ASSERT_LT(place, expected.size());
      ASSERT_NEAR(found[i], expected[place++], 2e-3) << entry.dump() << ", number " << i;
    }
  }
  EXPECT_EQ(place, expected.size());
}

}  // namespace
}  // namespace adze
