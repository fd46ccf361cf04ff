// What every store and policy promises, on a tiny random model: a row's bits depend on its place
// alone; a forked, truncated, saved or loaded sequence goes on as if nothing had happened.

#include <cstring>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/parallel.h"
#include "infer/append_tokens.h"
#include "infer/surprisal.h"
#include "kv/cache_registry.h"
#include "kv/cached_attention.h"
#include "methods/register_methods.h"
#include "model/forward.h"
#include "tests/support/random_model.h"

namespace adze {
namespace {

using Rows = std::vector<std::vector<float>>;  // hidden rows, one a token

kernels::AttentionShape shape_of(const model::ModelSpec& spec) {
  return {spec.heads, spec.kv_heads, spec.head_dim, 0.25F};  // head_dim 16
}

struct Setting {
  std::string name;
  kv::KvStorePtr store;
  kv::KvPolicyPtr policy;
};

// Every store with every policy; "sealed" is a store whose raw and sealed forms differ.
std::vector<Setting> settings(const model::ModelSpec& spec) {
  methods::register_methods();
  std::vector<std::pair<std::string, kv::KvStorePtr>> stores = {
      {"sealed",
       kv::make_plain_store(kernels::PageType::kF32, kernels::PageType::kF16, shape_of(spec))}};
  for (const char* name : {"f32",
                           "f16",
                           "bf16",
                           "int8",
                           "int4",
                           "kivi",
                           "kivi:bits=2",
                           "deco:bits=4",
                           "deco:bits=2",
                           "deco:bits=1",
                           "deco:bits=3,form=a",
                           "deco:form=b"}) {
    stores.emplace_back(name, kv::make_store(name, spec));
  }
  std::vector<std::pair<std::string, kv::KvPolicyPtr>> policies;
  for (const char* name : {"full",
                           "window:sinks=4,window=60",
                           "window:sinks=0,window=1",
                           "window:keep=0.4",
                           "h2o:keep=0.3",
                           "h2o:tokens=50",
                           "h2o:tokens=50,ranks=true",
                           "snapkv:keep=0.4,recent=8",
                           "pyramidkv:keep=0.5,recent=8",
                           "tova:keep=0.5",
                           "knorm:tokens=60",
                           "keydiff:keep=0.6",
                           "pyramid",
                           "sirllm:tokens=64"}) {
    policies.emplace_back(name, kv::make_policy(name));
  }
  std::vector<Setting> list;
  for (const auto& [store_name, store] : stores) {
    for (const auto& [policy_name, policy] : policies) {
      list.push_back({store_name + ", " + policy_name, store, policy});
    }
  }
  return list;
}

class CacheTest : public testing::Test {
 protected:
  CacheTest() : spec_(model::tiny_spec()) { use(spec_); }

  void use(const model::ModelSpec& spec) {
    spec_ = spec;
    model_ = model::random_model(spec);
    rotation_ = std::make_unique<kv::Rotation>(spec, spec.context_length);
  }

  kv::Sequence new_sequence(const Setting& setting) {
    return {pool_, setting.store, setting.policy, kv::make_cache_layout(spec_)};
  }

  Rows append(kv::Sequence& sequence, const std::vector<int32_t>& tokens, int64_t chunk) {
    Rows rows;
    infer::append_tokens(
        *model_, *rotation_, sequence, tokens, chunk, [&](int64_t, const at::Tensor& hidden) {
          for (int64_t row = 0; row < hidden.size(0); ++row) {
            const float* values = hidden.const_data_ptr<float>() + row * hidden.size(1);
            rows.emplace_back(values, values + hidden.size(1));
          }
        });
    return rows;
  }

  model::ModelSpec spec_;
  model::ModelPtr model_;
  std::unique_ptr<kv::Rotation> rotation_;
  kv::PagePool pool_{int64_t{1} << 28};
};

std::vector<int32_t> slice(const std::vector<int32_t>& tokens, size_t begin, size_t end) {
  return {tokens.begin() + static_cast<int64_t>(begin), tokens.begin() + static_cast<int64_t>(end)};
}

TEST_F(CacheTest, RowsDoNotDependOnChunksOrThreads) {
  // Past 256 tokens: a store may keep so many before it seals pages.
  const auto tokens = model::random_tokens(290, spec_.vocab_size, 1);
  const auto head = slice(tokens, 0, 220);
  const auto tail = slice(tokens, 220, 290);
  for (const Setting& setting : settings(spec_)) {
    core::set_num_threads(1);
    kv::Sequence whole = new_sequence(setting);
    const Rows expected = append(whole, tokens, 1000);
    for (const auto& [threads, chunk, last_chunk] : {std::tuple{1, 5, 1}, {2, 41, 1000}}) {
      core::set_num_threads(threads);
      kv::Sequence sequence = new_sequence(setting);
      Rows rows = append(sequence, head, chunk);
      for (auto& row : append(sequence, tail, last_chunk)) {
        rows.push_back(std::move(row));
      }
      ASSERT_EQ(rows, expected) << setting.name << ", chunk " << chunk << ", threads " << threads;
    }
  }
  EXPECT_EQ(pool_.audit().live_pages, 0);
}

TEST_F(CacheTest, RowsDoNotDependOnTheOtherSequencesOfAStep) {
  const auto list = settings(spec_);
  std::vector<kv::Sequence> together;
  std::vector<Rows> expected;
  std::vector<std::vector<int32_t>> texts;
  for (size_t i = 0; i < list.size(); ++i) {
    texts.push_back(model::random_tokens(90 + static_cast<int64_t>(i), spec_.vocab_size, i));
    kv::Sequence alone = new_sequence(list[i]);
    expected.push_back(append(alone, texts.back(), 1000));
    together.push_back(new_sequence(list[i]));
  }
  // All sequences advance in mixed steps of 1 to 9 rows.
  std::vector<size_t> done(list.size(), 0);
  core::Rng rng(3);
  for (bool busy = true; busy;) {
    busy = false;
    model::TokenRows rows{{}, {0}};
    std::vector<kv::StepRows> step;
    std::vector<size_t> who;
    for (size_t i = 0; i < list.size(); ++i) {
      const auto count = std::min<size_t>(
          {1 + rng.next_uint64() % 9,
           texts[i].size() - done[i],
           static_cast<size_t>(std::max<int64_t>(together[i].rows_before_cut(), 1))});
      if (done[i] == texts[i].size()) {
        continue;
      }
      rows.tokens.insert(rows.tokens.end(),
                         texts[i].begin() + static_cast<int64_t>(done[i]),
                         texts[i].begin() + static_cast<int64_t>(done[i] + count));
      rows.sequence_starts.push_back(static_cast<int64_t>(rows.tokens.size()));
      step.push_back({&together[i], static_cast<int64_t>(count)});
      who.push_back(i);
      busy = true;
    }
    if (!busy) {
      break;
    }
    kv::CachedAttention context(spec_, *rotation_, step);
    const at::Tensor hidden = model::forward(*model_, rows, context);
    const float* values = hidden.const_data_ptr<float>();
    for (size_t part = 0; part < step.size(); ++part) {
      const bool surprisals = step[part].sequence->policy().needs().surprisal;
      const auto first = static_cast<int64_t>(rows.sequence_starts[part]);
      step[part].sequence->end_step(
          step[part].rows,
          surprisals ? infer::step_surprisals(
                           *model_,
                           *step[part].sequence,
                           std::span(texts[who[part]])
                               .subspan(done[who[part]], static_cast<size_t>(step[part].rows)),
                           hidden.narrow(0, first, step[part].rows))
                     : std::vector<float>());
      for (int64_t row = 0; row < step[part].rows; ++row) {
        const auto& wanted = expected[who[part]][done[who[part]]++];
        ASSERT_EQ(0, std::memcmp(values, wanted.data(), wanted.size() * 4))
            << list[who[part]].name << " at token " << done[who[part]] - 1;
        values += wanted.size();
      }
    }
  }
}

TEST_F(CacheTest, ForksGoOnIndependently) {
  for (const Setting& setting : settings(spec_)) {
    const auto prompt = model::random_tokens(75, spec_.vocab_size, 4);
    const auto left = model::random_tokens(40, spec_.vocab_size, 5);
    const auto right = model::random_tokens(40, spec_.vocab_size, 6);
    kv::Sequence sequence = new_sequence(setting);
    append(sequence, prompt, 1000);
    kv::Sequence fork = sequence.fork();
    const Rows left_rows = append(sequence, left, 3);
    const Rows right_rows = append(fork, right, 5);
    kv::Sequence alone = new_sequence(setting);
    append(alone, prompt, 1000);
    EXPECT_EQ(append(alone, left, 1000), left_rows) << setting.name;
    alone.clear();
    append(alone, prompt, 1000);
    EXPECT_EQ(append(alone, right, 1000), right_rows) << setting.name;
  }
  EXPECT_EQ(pool_.audit().live_pages, 0);
}

TEST_F(CacheTest, TruncatedSequencesGoOnAsIfNothingHadFollowed) {
  for (const Setting& setting : settings(spec_)) {
    if (setting.policy->evicts()) {
      continue;
    }
    const auto tokens = model::random_tokens(100, spec_.vocab_size, 7);
    const auto more = model::random_tokens(40, spec_.vocab_size, 8);
    for (const size_t length : {0, 31, 32, 64, 97, 100}) {
      kv::Sequence sequence = new_sequence(setting);
      append(sequence, tokens, 9);
      const bool opens_sealed = !setting.store->sealed_is_raw() &&
                                setting.store->first_pages() == 1 && length % 32 != 0 &&
                                length < 96;
      if (opens_sealed) {
        EXPECT_THROW(sequence.truncate(static_cast<int64_t>(length)), core::Error);
        continue;
      }
      sequence.truncate(static_cast<int64_t>(length));
      kv::Sequence shorter = new_sequence(setting);
      append(shorter, slice(tokens, 0, length), 1000);
      EXPECT_EQ(append(sequence, more, 1000), append(shorter, more, 1000))
          << setting.name << ", length " << length;
    }
  }
}

TEST_F(CacheTest, SavedSequencesGoOnWithEqualBits) {
  for (const Setting& setting : settings(spec_)) {
    const auto tokens = model::random_tokens(130, spec_.vocab_size, 9);
    const auto more = model::random_tokens(50, spec_.vocab_size, 10);
    kv::Sequence sequence = new_sequence(setting);
    append(sequence, tokens, 1000);
    core::StateWriter writer;
    sequence.save(writer);
    const Rows expected = append(sequence, more, 1000);
    kv::Sequence restored = new_sequence(setting);
    core::StateReader reader("memory", writer.buffer());
    restored.load(reader);
    EXPECT_TRUE(reader.at_end());
    EXPECT_EQ(restored.num_tokens(), 130);
    EXPECT_EQ(append(restored, more, 11), expected) << setting.name;
  }
}

TEST_F(CacheTest, DamagedSavesAreRefusedAndChangeNothing) {
  const Setting setting{
      "", kv::make_store("f16", spec_), kv::make_policy("window:sinks=0,window=1")};
  kv::Sequence sequence = new_sequence(setting);
  append(sequence, model::random_tokens(70, spec_.vocab_size, 11), 1000);
  core::StateWriter writer;
  sequence.save(writer);
  const std::vector<std::byte> good = writer.buffer();
  kv::Sequence target = new_sequence(setting);
  append(target, model::random_tokens(10, spec_.vocab_size, 12), 1000);
  for (size_t length = 0; length < good.size(); length += 1 + length / 8) {
    core::StateReader reader("cut", std::span(good).first(length));
    EXPECT_THROW(target.load(reader), core::Error) << length;
    EXPECT_EQ(target.num_tokens(), 10);
  }
  core::Rng rng(13);
  for (int round = 0; round < 300; ++round) {
    auto damaged = good;
    damaged[rng.next_uint64() % std::min<size_t>(damaged.size(), 400)] ^=
        static_cast<std::byte>(1 + rng.next_uint64() % 255);
    core::StateReader reader("damaged", damaged);
    kv::Sequence victim = new_sequence(setting);
    try {
      victim.load(reader);  // damaged values may load; damaged structure must not crash
    } catch (const core::Error&) {
    }
  }
}

// What another policy would never leave behind: more tokens than the limit, other evidence, ragged
// slots.
TEST_F(CacheTest, SavesUnderTheNameOfAnotherPolicyDoNoHarm) {
  const auto all = settings(spec_);
  int loaded = 0;
  for (const Setting& own : all) {
    const bool tried = own.name.starts_with("f32") || own.name.starts_with("int8") ||
                       own.name.starts_with("deco:bits=4");
    if (!tried) {
      continue;
    }
    kv::Sequence sequence = new_sequence(own);
    sequence.begin_turn(260, 0);
    append(sequence, model::random_tokens(260, spec_.vocab_size, 36), 1000);
    core::StateWriter writer;
    sequence.save(writer);
    core::StateReader reader("own", writer.buffer());
    const std::string format = reader.text();
    const std::string store = reader.text();
    const size_t head = 3 * sizeof(uint64_t) + format.size() + store.size() + reader.text().size();
    for (const Setting& other : all) {
      if (other.store->name() != store) {
        continue;
      }
      SCOPED_TRACE(own.name + " as " + other.name);
      core::StateWriter renamed;
      renamed.text(format);
      renamed.text(store);
      renamed.text(other.policy->name());
      renamed.bytes(std::span(writer.buffer()).subspan(head));
      core::StateReader again("renamed", renamed.buffer());
      kv::Sequence victim = new_sequence(other);
      try {
        victim.load(again);
      } catch (const core::Error&) {
        continue;
      }
      ++loaded;
      victim.begin_turn(40, 10);
      append(victim, model::random_tokens(40, spec_.vocab_size, 37), 7);
      append(victim, model::random_tokens(34, spec_.vocab_size, 38), 1);
    }
  }
  EXPECT_GT(loaded, 3 * 14);  // more than those under their own names
}

// Exports come from strangers: whatever loads can be gone on with.
TEST_F(CacheTest, DamagedSavesThatLoadDoNoHarm) {
  core::Rng rng(31);
  for (const Setting& setting : settings(spec_)) {
    kv::Sequence sequence = new_sequence(setting);
    sequence.begin_turn(270, 0);  // a codec has its side data
    append(sequence, model::random_tokens(270, spec_.vocab_size, 32), 1000);
    append(sequence, model::random_tokens(45, spec_.vocab_size, 33), 1);
    core::StateWriter writer;
    sequence.save(writer);
    const std::vector<std::byte> good = writer.buffer();
    int loaded = 0;
    for (int round = 0; round < 10; ++round) {
      auto damaged = good;
      // Anywhere, and at the end, where policies keep what they know.
      const size_t range = round % 2 == 0 ? good.size() : std::min<size_t>(good.size(), 600);
      for (int i = 0; i < 4; ++i) {
        damaged[good.size() - 1 - rng.next_uint64() % range] =
            static_cast<std::byte>(round % 3 == 0 ? 255 : rng.next_uint64() % 256);
      }
      core::StateReader reader("damaged", damaged);
      kv::Sequence victim = new_sequence(setting);
      try {
        victim.load(reader);
      } catch (const core::Error&) {
        continue;
      }
      ++loaded;
      victim.begin_turn(20, 10);
      append(victim, model::random_tokens(20, spec_.vocab_size, 34), 7);
      append(victim, model::random_tokens(15, spec_.vocab_size, 35), 1);
      core::StateWriter again;
      victim.save(again);
    }
    EXPECT_GT(loaded, 0) << setting.name;
  }
}

// Keys that wait unrotated are rotated by the same operations as those that do not.
TEST_F(CacheTest, AWindowThatIsNeverFullChangesNothing) {
  const Setting full{"", kv::make_store("f32", spec_), kv::make_policy("full")};
  const Setting window{"", kv::make_store("f32", spec_), kv::make_policy("window:window=500")};
  const auto tokens = model::random_tokens(100, spec_.vocab_size, 14);
  kv::Sequence left = new_sequence(full);
  kv::Sequence right = new_sequence(window);
  EXPECT_EQ(append(right, tokens, 1000), append(left, tokens, 1000));
}

// What tokens have received does not depend on how positions are counted while none has gone, so
// the first cut leaves the same ones.
TEST_F(CacheTest, HeavyHittersByRankAreTheSameUntilTheFirstCut) {
  const Setting text{"", kv::make_store("f32", spec_), kv::make_policy("h2o:tokens=40")};
  const Setting ranks{
      "", kv::make_store("f32", spec_), kv::make_policy("h2o:tokens=40,ranks=true")};
  const auto tokens = model::random_tokens(100, spec_.vocab_size, 15);
  kv::Sequence left = new_sequence(text);
  kv::Sequence right = new_sequence(ranks);
  left.begin_turn(100, 0);
  right.begin_turn(100, 0);
  EXPECT_EQ(append(right, tokens, 1000), append(left, tokens, 1000));
  for (int64_t slot = 0; slot < left.num_slots(); ++slot) {
    EXPECT_EQ(left.cached_tokens(slot), 40);
    EXPECT_EQ(right.positions(slot), left.positions(slot));
  }
}

TEST_F(CacheTest, AWindowKeepsSinksAndTheNewest) {
  const Setting setting{
      "", kv::make_store("f16", spec_), kv::make_policy("window:sinks=4,window=60")};
  kv::Sequence sequence = new_sequence(setting);
  append(sequence, model::random_tokens(400, spec_.vocab_size, 15), 1000);
  for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
    const auto positions = sequence.positions(slot);
    ASSERT_EQ(static_cast<int64_t>(positions.size()), sequence.cached_tokens(slot));
    ASSERT_GE(positions.size(), 64U);
    ASSERT_LT(positions.size(), 96U);
    for (int32_t i = 0; i < 4; ++i) {
      EXPECT_EQ(positions[static_cast<size_t>(i)], i);
    }
    for (size_t i = 4; i < positions.size(); ++i) {
      EXPECT_EQ(positions[i], 400 - static_cast<int32_t>(positions.size() - i));
    }
  }
  EXPECT_LE(sequence.bytes(), sequence.num_slots() * (3 * setting.store->raw_page_bytes() + 400));
}

TEST_F(CacheTest, LayersThatShareKeysOwnNoSlot) {
  model::ModelSpec spec = model::tiny_spec();
  spec.kv_source = {0, 0, 2, 2};
  use(spec);
  for (const Setting& setting : settings(spec)) {
    kv::Sequence sequence = new_sequence(setting);
    ASSERT_EQ(sequence.num_slots(), 2);
    const auto tokens = model::random_tokens(140, spec.vocab_size, 16);
    const Rows whole = append(sequence, tokens, 1000);
    kv::Sequence stepped = new_sequence(setting);
    EXPECT_EQ(append(stepped, tokens, 3), whole) << setting.name;
  }
}

TEST_F(CacheTest, KeptColumnsAreThoseOfEachHead) {
  const auto store = kv::make_store("f32", spec_);
  const auto shape = shape_of(spec_);
  const int64_t width = shape.kv_heads * shape.head_dim;
  kv::SlotPages slot;
  std::vector<float> key(static_cast<size_t>(100 * width));
  std::iota(key.begin(), key.end(), 0.0F);
  std::vector<int32_t> positions(100);
  std::iota(positions.begin(), positions.end(), 0);
  store->append(pool_, slot, key.data(), key.data(), positions);
  kv::Columns columns{.heads = 2, .ranks = {}};
  std::vector<int32_t> first(70);
  std::iota(first.begin(), first.end(), 5);
  std::vector<int32_t> second(70);
  std::iota(second.begin(), second.end(), 30);
  columns.ranks = first;
  columns.ranks.insert(columns.ranks.end(), second.begin(), second.end());
  store->keep(pool_, slot, columns);
  ASSERT_EQ(slot.length, 70);
  std::vector<int32_t> expected;
  for (int32_t i = 0; i < 70; ++i) {
    expected.insert(expected.end(), {i + 5, i + 30});
  }
  EXPECT_EQ(slot.positions, expected);
  store->append(pool_, slot, key.data(), key.data(), std::vector<int32_t>{100});
  EXPECT_EQ(slot.positions.size(), 142U);
  EXPECT_EQ(slot.positions.back(), 100);
  std::vector<float> read_key(static_cast<size_t>(width));
  std::vector<float> read_value(read_key.size());
  for (int32_t rank = 0; rank < 70; ++rank) {
    const auto& page = rank < 64 ? slot.sealed[static_cast<size_t>(rank / 32)] : slot.raw[0];
    kernels::read_page_token(
        shape, kernels::PageType::kF32, page.data(), rank % 32, read_key.data(), read_value.data());
    EXPECT_EQ(read_key[0], static_cast<float>((rank + 5) * width));
    EXPECT_EQ(read_value[16], static_cast<float>((rank + 30) * width + 16));
  }
}

TEST_F(CacheTest, NamesAndKeysAreChecked) {
  EXPECT_THROW(kv::make_store("f61", spec_), core::UsageError);
  EXPECT_THROW(kv::make_store("f16:bits=4", spec_), core::UsageError);
  EXPECT_THROW(kv::make_policy("windo"), core::UsageError);
  EXPECT_THROW(kv::make_policy("window:sinks"), core::UsageError);
  EXPECT_THROW(kv::make_policy("window:sinks=-1"), core::UsageError);
  EXPECT_THROW(kv::make_policy("window:sinks=many"), core::UsageError);
  EXPECT_THROW(kv::make_policy("window:window=0"), core::UsageError);
  EXPECT_EQ(kv::make_policy("window:window=100")->name(), "window:sinks=4,window=100");
}

}  // namespace
}  // namespace adze
