// The four axes together: every store with every policy, with layers that own their keys and layers
// that share them, over dense and packed weights, alone and in a batch.

#include <cmath>
#include <numeric>

#include <fmt/format.h>
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

// Past the 256 tokens that a store may want to see before it seals pages; an answer of a page, so
// that policies cut once more.
constexpr int64_t kPrompt = 260;
constexpr int64_t kAnswer = 34;

std::vector<std::string> store_names() {
  methods::register_methods();
  std::vector<std::string> names;
  for (const kv::StoreEntry& entry : kv::store_entries()) {
    names.push_back(entry.name);
  }
  return names;
}

// Each policy twice: with a budget, and with one that is never reached.
struct PolicyPair {
  std::string limited;
  std::string unlimited;
};
std::vector<PolicyPair> policies() {
  return {{"full", "full"},
          {"window:keep=0.5", "window"},
          {"h2o:keep=0.5", "h2o:keep=1"},
          {"snapkv:keep=0.5", "snapkv:keep=1"},
          {"pyramidkv:keep=0.5", "pyramidkv:keep=1"},
          {"tova:keep=0.5", "tova:keep=1"},
          {"knorm:keep=0.5", "knorm:keep=1"},
          {"keydiff:keep=0.5", "keydiff:keep=1"},
          {"pyramid:keep=0.6", "pyramid:keep=1"},
          {"sirllm:tokens=128", "sirllm"}};
}

TEST(CacheProduct, ListsEveryPolicyThatIsKnown) {
  methods::register_methods();
  std::vector<std::string> listed;
  for (const PolicyPair& pair : policies()) {
    listed.push_back(pair.limited.substr(0, pair.limited.find(':')));
  }
  std::vector<std::string> known;
  for (const kv::PolicyEntry& entry : kv::policy_entries()) {
    known.push_back(entry.name);
  }
  EXPECT_EQ(listed, known);
}

model::ModelPtr model_of(const std::vector<int64_t>& kv_source) {
  model::ModelSpec spec = model::tiny_spec();
  spec.num_layers = static_cast<int64_t>(kv_source.size());
  spec.kv_source = kv_source;
  return model::random_model(spec);
}

model::ModelPtr make_model(int64_t sharing, bool dense) {
  std::vector<int64_t> kv_source;
  for (int64_t layer = 0; layer < 2 * sharing; ++layer) {  // two slots
    kv_source.push_back(layer - layer % sharing);
  }
  model::ModelPtr packed = model_of(kv_source);
  const model::ModelSpec& spec = packed->spec;
  if (!dense) {
    return packed;
  }
  auto model = std::make_shared<model::Model>(*packed);
  const auto as_dense = [](tensor::LinearWeightPtr& weight, int64_t outputs) {
    if (weight != nullptr) {
      std::vector<int64_t> all(static_cast<size_t>(outputs));
      std::iota(all.begin(), all.end(), 0);
      weight = tensor::make_dense_weight(weight->rows(all));
    }
  };
  for (model::Layer& layer : model->layers) {
    as_dense(layer.query, spec.heads * spec.head_dim);
    as_dense(layer.key, spec.kv_width());
    as_dense(layer.value, spec.kv_width());
    as_dense(layer.attention_output, spec.hidden_size);
    as_dense(layer.gate, spec.intermediate_size);
    as_dense(layer.up, spec.intermediate_size);
    as_dense(layer.down, spec.hidden_size);
  }
  return model;
}

using Logits = std::vector<float>;

// Logits of the prompt's last row and of every row of the answer.
Logits run(const model::Model& model,
           kv::Rotation& rotation,
           kv::Sequence& sequence,
           const std::vector<int32_t>& tokens) {
  Logits result;
  const auto take = [&](const at::Tensor& rows) {
    const at::Tensor logits = model::logits(model, rows);
    const auto* values = logits.const_data_ptr<float>();
    result.insert(result.end(), values, values + logits.numel());
  };
  const std::span<const int32_t> all(tokens);
  sequence.begin_turn(kPrompt, kAnswer);
  at::Tensor last;
  infer::append_tokens(
      model, rotation, sequence, all.first(kPrompt), 64, [&](int64_t, const at::Tensor& hidden) {
        last = hidden.narrow(0, hidden.size(0) - 1, 1);
      });
  take(last);
  infer::append_tokens(
      model, rotation, sequence, all.subspan(kPrompt), 1, [&](int64_t, const at::Tensor& hidden) {
        take(hidden);
      });
  return result;
}

// The same of several sequences at once, a step at a time.
std::vector<Logits> run_together(const model::Model& model,
                                 kv::Rotation& rotation,
                                 std::vector<kv::Sequence>& sequences,
                                 const std::vector<int32_t>& tokens) {
  std::vector<Logits> results(sequences.size());
  std::vector<int64_t> done(sequences.size(), 0);
  for (kv::Sequence& sequence : sequences) {
    sequence.begin_turn(kPrompt, kAnswer);
  }
  for (bool busy = true; busy;) {
    busy = false;
    model::TokenRows rows{.tokens = {}, .sequence_starts = {0}};
    std::vector<kv::StepRows> step;
    std::vector<size_t> who;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const int64_t left = (done[i] < kPrompt ? kPrompt : kPrompt + kAnswer) - done[i];
      const int64_t chunk = done[i] < kPrompt ? std::max<int64_t>(40 + static_cast<int64_t>(i),
                                                                  sequences[i].rows_at_once())
                                              : 1;
      const int64_t count = std::min({left, chunk, sequences[i].rows_before_cut()});
      if (left == 0) {
        continue;
      }
      const auto first = tokens.begin() + done[i];
      rows.tokens.insert(rows.tokens.end(), first, first + count);
      rows.sequence_starts.push_back(static_cast<int64_t>(rows.tokens.size()));
      step.push_back({&sequences[i], count});
      who.push_back(i);
      busy = true;
    }
    if (!busy) {
      break;
    }
    kv::CachedAttention context(model.spec, rotation, step);
    const at::Tensor hidden = model::forward(model, rows, context);
    int64_t end = 0;
    const std::vector<int64_t> left = context.rows_left();
    for (size_t part = 0; part < step.size(); ++part) {
      const size_t i = who[part];
      end += left[part];
      const bool surprisals = sequences[i].policy().needs().surprisal;
      const auto first = static_cast<size_t>(done[i]);
      sequences[i].end_step(
          step[part].rows,
          surprisals ? infer::step_surprisals(
                           model,
                           sequences[i],
                           std::span(tokens).subspan(first, static_cast<size_t>(step[part].rows)),
                           hidden.narrow(0, end - step[part].rows, step[part].rows))
                     : std::vector<float>());
      done[i] += step[part].rows;
      if (done[i] >= kPrompt) {
        const at::Tensor logits = model::logits(model, hidden.narrow(0, end - 1, 1));
        const auto* values = logits.const_data_ptr<float>();
        results[i].insert(results[i].end(), values, values + logits.numel());
      }
    }
  }
  return results;
}

float largest_difference(const Logits& left, const Logits& right) {
  EXPECT_EQ(left.size(), right.size());
  float largest = 0;
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    largest = std::isfinite(left[i]) ? std::max(largest, std::abs(left[i] - right[i])) : INFINITY;
  }
  return largest;
}

class CacheProduct : public testing::TestWithParam<std::tuple<int64_t, bool>> {};

TEST_P(CacheProduct, EveryStoreWithEveryPolicy) {
  const auto [sharing, dense] = GetParam();
  const model::ModelPtr model = make_model(sharing, dense);
  const model::ModelSpec& spec = model->spec;
  const kv::CacheLayoutPtr layout = kv::make_cache_layout(spec);
  kv::Rotation rotation(spec, spec.context_length);
  kv::PagePool pool(int64_t{1} << 30);
  const auto tokens = model::random_tokens(kPrompt + kAnswer, spec.vocab_size, 3);
  const auto sequence_of = [&](const std::string& store, const std::string& policy) {
    return kv::Sequence(pool, kv::make_store(store, spec), kv::make_policy(policy), layout);
  };
  kv::Sequence plain = sequence_of("f32", "full");
  core::set_num_threads(1);  // a row at a time of a tiny model is too little for two
  const Logits expected = run(*model, rotation, plain, tokens);
  plain.clear();
  std::vector<kv::Sequence> together;
  std::vector<Logits> alone;
  for (const PolicyPair& policy : policies()) {
    {
      kv::Sequence unlimited = sequence_of("f32", policy.unlimited);
      EXPECT_EQ(run(*model, rotation, unlimited, tokens), expected) << policy.unlimited;
    }
    EXPECT_EQ(pool.used_bytes(), 0) << policy.unlimited;
    for (const std::string& store : store_names()) {
      kv::Sequence sequence = sequence_of(store, policy.limited);
      alone.push_back(run(*model, rotation, sequence, tokens));
      EXPECT_TRUE(std::isfinite(largest_difference(alone.back(), expected)));
      // What is reported is what the pool has given out, and what it has given out is there.
      EXPECT_EQ(sequence.page_bytes(), pool.used_bytes()) << store << ", " << policy.limited;
      EXPECT_EQ(pool.audit().live_bytes, pool.used_bytes());
      EXPECT_GE(sequence.bytes(), sequence.page_bytes());
      if (sequence.policy().evicts()) {
        int64_t kept = 0;
        for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
          kept += sequence.cached_tokens(slot);
        }
        EXPECT_LT(kept, sequence.num_slots() * sequence.num_tokens() * 3 / 4)
            << store << ", " << policy.limited;
      }
      sequence.clear();
      EXPECT_EQ(pool.used_bytes(), 0);
      together.push_back(sequence_of(store, policy.limited));
    }
  }
  // All of them in the same steps, on more threads: not a bit changes.
  core::set_num_threads(2);
  const std::vector<Logits> batched = run_together(*model, rotation, together, tokens);
  for (size_t i = 0; i < batched.size(); ++i) {
    EXPECT_EQ(batched[i], alone[i])
        << together[i].store().name() << ", " << together[i].policy().name();
  }
  together.clear();
  EXPECT_EQ(pool.audit().live_pages, 0);
}

// Rows leave a prompt only where no layer above reads a slot that they are in.
TEST(CacheProduct, NarrowsBetweenGroupsThatOverlap) {
  methods::register_methods();
  const std::vector<std::vector<int64_t>> layouts = {
      {0, 1, 0, 1, 4, 5}, {0, 1, 2, 0, 1, 2}, {0, 1, 1, 0, 4, 5}, {0, 0, 2, 3, 3, 2, 6, 7}};
  for (const std::vector<int64_t>& layout : layouts) {
    const model::ModelPtr model = model_of(layout);
    const model::ModelSpec& spec = model->spec;
    kv::Rotation rotation(spec, spec.context_length);
    kv::PagePool pool(int64_t{1} << 30);
    const auto tokens = model::random_tokens(kPrompt + kAnswer, spec.vocab_size, 3);
    const auto logits = [&](const std::string& policy, bool narrows) {
      kv::Sequence sequence(
          pool, kv::make_store("f32", spec), kv::make_policy(policy), kv::make_cache_layout(spec));
      Logits found = run(*model, rotation, sequence, tokens);
      EXPECT_EQ(sequence.cached_tokens(0), kPrompt + kAnswer);  // the first slot holds every token
      EXPECT_EQ(sequence.cached_tokens(sequence.num_slots() - 1) < kPrompt, narrows);
      return found;
    };
    const Logits expected = logits("full", false);
    EXPECT_EQ(logits("pyramid:keep=1", false), expected);
    EXPECT_TRUE(std::isfinite(
        largest_difference(logits("pyramid:keep=0.7", layout != layouts[1]), expected)));
  }
}

// What the first slots cannot take up, for they are full, the others get.
TEST(CacheProduct, PyramidKvKeepsItsMean) {
  const model::ModelPtr model = model_of({0, 1, 2, 3});
  const model::ModelSpec& spec = model->spec;
  kv::Rotation rotation(spec, spec.context_length);
  kv::PagePool pool(int64_t{1} << 30);
  const auto tokens = model::random_tokens(kPrompt + kAnswer, spec.vocab_size, 3);
  for (const double keep : {0.3, 0.5, 0.75, 0.9}) {
    kv::Sequence sequence(pool,
                          kv::make_store("f32", spec),
                          kv::make_policy(fmt::format("pyramidkv:keep={}", keep)),
                          kv::make_cache_layout(spec));
    run(*model, rotation, sequence, tokens);
    int64_t kept = 0;
    for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
      kept += sequence.cached_tokens(slot) - kAnswer;  // answers are not cut
    }
    EXPECT_NEAR(static_cast<double>(kept) / 4, keep * kPrompt, 1.5) << keep;
  }
}

INSTANTIATE_TEST_SUITE_P(SharingAndWeights,
                         CacheProduct,
                         testing::Combine(testing::Values<int64_t>(1, 2, 3), testing::Bool()));

}  // namespace
}  // namespace adze
