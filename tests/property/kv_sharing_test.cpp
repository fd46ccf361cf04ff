// Layers that share keys and values, through the forward pass and the cache: against a plain model
// whose layers are handed their owner's keys and values, against sums in double, and in bytes.

#include "model/kv_sharing.h"

#include <cmath>
#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "kv/cache_registry.h"
#include "kv/cached_attention.h"
#include "methods/cross_layer_attention/cross_layer_attention.h"
#include "model/forward.h"
#include "tests/support/random_model.h"

namespace adze {
namespace {

using Rows = std::vector<std::vector<float>>;  // hidden rows, one a token
using Sources = std::vector<int64_t>;

at::Tensor copy_of(const at::Tensor& rows) {
  at::Tensor copy = tensor::empty_floats(rows.size(0), rows.size(1));
  std::memcpy(copy.mutable_data_ptr<float>(),
              rows.const_data_ptr<float>(),
              static_cast<size_t>(rows.numel()) * sizeof(float));
  return copy;
}

void append_rows(const at::Tensor& hidden, Rows& rows) {
  for (int64_t row = 0; row < hidden.size(0); ++row) {
    const float* values = hidden.const_data_ptr<float>() + row * hidden.size(1);
    rows.emplace_back(values, values + hidden.size(1));
  }
}

// Of a model all of whose layers own keys and values: layers get their owner's instead.
class Substituting : public model::AttentionContext {
 public:
  Substituting(model::AttentionContext& inner, const Sources& sources)
      : inner_(inner), sources_(sources) {}

  at::Tensor attend(int64_t layer,
                    const at::Tensor& query,
                    const at::Tensor& key,
                    const at::Tensor& value) override {
    const int64_t source = sources_[static_cast<size_t>(layer)];
    if (source == layer) {
      keys_[layer] = copy_of(key);
      values_[layer] = copy_of(value);
    }
    return inner_.attend(layer, query, copy_of(keys_.at(source)), copy_of(values_.at(source)));
  }

 private:
  model::AttentionContext& inner_;
  const Sources& sources_;
  std::map<int64_t, at::Tensor> keys_;
  std::map<int64_t, at::Tensor> values_;
};

// Keeps what attention gave to each layer.
class Recording : public model::AttentionContext {
 public:
  explicit Recording(model::AttentionContext& inner) : inner_(inner) {}

  at::Tensor attend(int64_t layer,
                    const at::Tensor& query,
                    const at::Tensor& key,
                    const at::Tensor& value) override {
    at::Tensor output = inner_.attend(layer, query, key, value);
    append_rows(output, outputs_[layer]);
    return output;
  }
  const Rows& outputs(int64_t layer) const { return outputs_.at(layer); }

 private:
  model::AttentionContext& inner_;
  std::map<int64_t, Rows> outputs_;
};

struct Cache {
  std::string store = "f32";
  std::string policy = "full";
};

// Hidden rows of tokens that come in steps of the given sizes.
Rows run(const model::Model& model,
         const std::vector<int32_t>& tokens,
         const std::vector<int64_t>& steps,
         const Cache& cache = {},
         const Sources* substituted = nullptr) {
  const model::ModelSpec& spec = model.spec;
  kv::PagePool pool(int64_t{1} << 28);
  kv::Rotation rotation(spec, spec.context_length);
  kv::Sequence sequence(pool,
                        kv::make_store(cache.store, spec),
                        kv::make_policy(cache.policy),
                        kv::make_cache_layout(spec));
  Rows rows;
  auto next = tokens.begin();
  for (int64_t left : steps) {
    while (left > 0) {
      const int64_t count = std::min(left, std::max<int64_t>(sequence.rows_before_cut(), 1));
      kv::CachedAttention attention(spec, rotation, {{&sequence, count}});
      const model::TokenRows step{{next, next + count}, {0, count}};
      if (substituted != nullptr) {
        Substituting context(attention, *substituted);
        append_rows(model::forward(model, step, context), rows);
      } else {
        append_rows(model::forward(model, step, attention), rows);
      }
      sequence.end_step(count);
      next += count;
      left -= count;
    }
  }
  return rows;
}

model::ModelSpec deep_spec(int64_t layers) {
  model::ModelSpec spec = model::tiny_spec();
  spec.num_layers = layers;
  spec.kv_source = model::own_kv_sources(layers);
  return spec;
}

// The same weights with keys and values of owners alone.
model::Model shared(const model::Model& plain, const Sources& sources) {
  model::Model model = plain;
  model.spec.kv_source = sources;
  for (size_t layer = 0; layer < sources.size(); ++layer) {
    if (std::cmp_not_equal(sources[layer], layer)) {
      model.layers[layer].key = model.layers[layer].value = nullptr;
    }
  }
  return model;
}

std::vector<Sources> layouts() {
  std::vector<Sources> list;
  for (const char* text : {"1",
                           "2",
                           "3",
                           "3:remainder=last",
                           "6",
                           "keep-ends",
                           "dense-front",
                           "dense-back",
                           "0,1,2,1,2,2"}) {
    list.push_back(methods::kv_layout(text, 6));
  }
  return list;
}

// ---- the example of the sheet, by hand: no norm, no rotation, every matrix the identity
// ----------

// Residual rows after each of two layers, tokens [1, 0] and [0, 1].
std::vector<Rows> hand_example(const Sources& sources, const std::vector<int64_t>& steps) {
  model::ModelSpec spec;
  spec.num_layers = 2;
  spec.heads = spec.kv_heads = 1;
  spec.head_dim = 16;  // of which 14 dimensions are zero
  spec.attention_scale = 1 / std::sqrt(2.0);
  spec.context_length = 32;
  spec.kv_source = sources;
  kv::PagePool pool(1 << 20);
  kv::Rotation rotation(spec, spec.context_length);
  kv::Sequence sequence(
      pool, kv::make_store("f32", spec), kv::make_policy("full"), kv::make_cache_layout(spec));
  std::vector<Rows> after(2);
  int64_t token = 0;
  for (const int64_t count : steps) {
    at::Tensor x = tensor::empty_floats(count, 16);
    std::fill_n(x.mutable_data_ptr<float>(), x.numel(), 0.0F);
    for (int64_t row = 0; row < count; ++row) {
      x.mutable_data_ptr<float>()[row * 16 + token++] = 1;
    }
    kv::CachedAttention attention(spec, rotation, {{&sequence, count}});
    for (int64_t layer = 0; layer < 2; ++layer) {
      const bool owner = spec.owns_kv(layer);
      tensor::add(x,
                  attention.attend(layer,
                                   copy_of(x),
                                   owner ? copy_of(x) : at::Tensor(),
                                   owner ? copy_of(x) : at::Tensor()));
      append_rows(x, after[static_cast<size_t>(layer)]);
    }
    sequence.end_step(count);
  }
  return after;
}

TEST(KvSharing, GivesTheHandExample) {  // [05 §6.2]
  for (const auto& steps : {std::vector<int64_t>{2}, {1, 1}}) {
    for (const bool consumer : {true, false}) {
      const auto after = hand_example(consumer ? Sources{0, 0} : Sources{0, 1}, steps);
      const double expected[2][4] = {{2, 0, .3302384507, 1.6697615493},
                                     {consumer ? 3.0 : 4.0,
                                      0,
                                      consumer ? .6096895696 : .9452924774,
                                      consumer ? 2.3903104304 : 3.0547075226}};
      for (size_t layer = 0; layer < 2; ++layer) {
        for (size_t i = 0; i < 4; ++i) {
          EXPECT_NEAR(after[layer][i / 2][i % 2], expected[layer][i], 1e-6) << layer << ", " << i;
        }
      }
    }
  }
}

// ---- oracles
// ---------------------------------------------------------------------------------------

TEST(KvSharing, OneLayerAGroupIsThePlainModel) {  // [05 §6.1]
  const auto plain = model::random_model(deep_spec(6));
  const auto tokens = model::random_tokens(70, plain->spec.vocab_size, 1);
  EXPECT_EQ(run(shared(*plain, methods::kv_layout("1", 6)), tokens, {70}),
            run(*plain, tokens, {70}));
}

TEST(KvSharing, IsAPlainModelWithSubstitutedKeysAndValues) {  // [05 §6.3]
  const auto plain = model::random_model(deep_spec(6));
  const auto tokens = model::random_tokens(70, plain->spec.vocab_size, 2);
  for (const Sources& sources : layouts()) {
    const model::Model model = shared(*plain, sources);
    for (const Cache& cache : {Cache{"f32", "full"},
                               Cache{"f16", "full"},
                               Cache{"int8", "full"},
                               Cache{"f16", "window:sinks=4,window=28"}}) {
      SCOPED_TRACE(model::kv_groups_text(sources) + ", " + cache.store + ", " + cache.policy);
      const Rows whole = run(model, tokens, {70}, cache);
      ASSERT_EQ(run(*plain, tokens, {70}, cache, &sources), whole);
      ASSERT_EQ(run(model, tokens, std::vector<int64_t>(70, 1), cache), whole);
      ASSERT_EQ(run(*plain, tokens, {33, 37}, cache, &sources), whole);
    }
    const Rows whole = run(model, tokens, {70});
    for (int64_t split = 1; split < 70; ++split) {
      ASSERT_EQ(run(model, tokens, {split, 70 - split}), whole) << split;
    }
  }
}

// The definitions in double, without cache, kernel or order of sums in common.
class Reference {
 public:
  explicit Reference(const model::Model& model) : model_(model), spec_(model.spec) {}

  using Values = std::vector<std::vector<double>>;

  Values hidden(const std::vector<int32_t>& tokens) {
    Values x;
    const Values embedding = matrix(model_.embedding);
    for (const int32_t token : tokens) {
      x.push_back(embedding[static_cast<size_t>(token)]);
    }
    for (int64_t index = 0; index < spec_.num_layers; ++index) {
      const model::Layer& layer = model_.layers[static_cast<size_t>(index)];
      const Values h = norm(x, layer.attention_norm);
      if (spec_.owns_kv(index)) {
        const Values kv = spec_.key_value_norm ? norm(x, layer.key_value_norm) : h;
        keys_[index] = rotated(product(kv, layer.key));
        values_[index] = product(kv, layer.value);
      }
      const int64_t source = spec_.kv_source[static_cast<size_t>(index)];
      const Values y = attend(rotated(product(h, layer.query)), keys_[source], values_[source]);
      add(x, product(y, layer.attention_output));
      const Values g = norm(x, layer.feed_forward_norm);
      Values gate = product(g, layer.gate);
      const Values up = product(g, layer.up);
      for (size_t row = 0; row < gate.size(); ++row) {
        for (size_t i = 0; i < gate[row].size(); ++i) {
          gate[row][i] *= up[row][i] / (1 + std::exp(-gate[row][i]));
        }
      }
      add(x, product(gate, layer.down));
    }
    return norm(x, model_.output_norm);
  }

 private:
  static Values matrix(const tensor::LinearWeightPtr& weight) {
    std::vector<int64_t> all(static_cast<size_t>(weight->outputs()));
    for (size_t i = 0; i < all.size(); ++i) {
      all[i] = static_cast<int64_t>(i);
    }
    const at::Tensor rows = weight->rows(all);
    Values values;
    for (int64_t row = 0; row < rows.size(0); ++row) {
      const float* first = rows.const_data_ptr<float>() + row * rows.size(1);
      values.emplace_back(first, first + rows.size(1));
    }
    return values;
  }
  static Values product(const Values& x, const tensor::LinearWeightPtr& weight) {
    const Values w = matrix(weight);
    Values y(x.size(), std::vector<double>(w.size(), 0));
    for (size_t row = 0; row < x.size(); ++row) {
      for (size_t out = 0; out < w.size(); ++out) {
        for (size_t i = 0; i < x[row].size(); ++i) {
          y[row][out] += x[row][i] * w[out][i];
        }
      }
    }
    return y;
  }
  static void add(Values& x, const Values& delta) {
    for (size_t row = 0; row < x.size(); ++row) {
      for (size_t i = 0; i < x[row].size(); ++i) {
        x[row][i] += delta[row][i];
      }
    }
  }
  Values norm(const Values& x, const model::Norm& gain) const {
    Values y = x;
    for (auto& row : y) {
      double squares = 0;
      for (const double value : row) {
        squares += value * value;
      }
      const double size = static_cast<double>(row.size());
      const double scale = 1 / std::sqrt(squares / size + spec_.norm_epsilon);
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] *= scale * static_cast<double>(gain.weight.const_data_ptr<float>()[i]);
      }
    }
    return y;
  }
  Values rotated(Values x) const {
    const auto half = static_cast<size_t>(spec_.head_dim / 2);
    for (size_t row = 0; row < x.size(); ++row) {
      for (size_t head = 0; head < x[row].size(); head += 2 * half) {
        for (size_t i = 0; i < half; ++i) {
          const double share = static_cast<double>(i) / static_cast<double>(half);
          const double angle = static_cast<double>(row) * std::pow(1e4, -share);
          double& left = x[row][head + i];
          double& right = x[row][head + half + i];
          const double turned = left * std::cos(angle) - right * std::sin(angle);
          right = right * std::cos(angle) + left * std::sin(angle);
          left = turned;
        }
      }
    }
    return x;
  }
  Values attend(const Values& query, const Values& key, const Values& value) const {
    Values y(query.size(), std::vector<double>(query.front().size(), 0));
    const auto dim = static_cast<size_t>(spec_.head_dim);
    const auto group = static_cast<size_t>(spec_.heads / spec_.kv_heads);
    for (size_t row = 0; row < query.size(); ++row) {
      for (size_t head = 0; head < static_cast<size_t>(spec_.heads); ++head) {
        const size_t from = head * dim;
        const size_t read = head / group * dim;
        double total = 0;
        for (size_t token = 0; token <= row; ++token) {
          double score = 0;
          for (size_t i = 0; i < dim; ++i) {
            score += query[row][from + i] * key[token][read + i];
          }
          const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
          total += weight;
          for (size_t i = 0; i < dim; ++i) {
            y[row][from + i] += weight * value[token][read + i];
          }
        }
        for (size_t i = 0; i < dim; ++i) {
          y[row][from + i] /= total;
        }
      }
    }
    return y;
  }

  const model::Model& model_;
  const model::ModelSpec& spec_;
  std::map<int64_t, Values> keys_;
  std::map<int64_t, Values> values_;
};

double largest_difference(const Rows& rows, const Reference::Values& expected) {
  double largest = 0;
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t i = 0; i < rows[row].size(); ++i) {
      largest = std::max(largest, std::abs(rows[row][i] - expected[row][i]));
    }
  }
  return largest;
}

TEST(KvSharing, AgreesWithSumsInDouble) {
  const auto plain = model::random_model(deep_spec(6));
  const auto tokens = model::random_tokens(50, plain->spec.vocab_size, 3);
  for (const Sources& sources : layouts()) {
    const model::Model model = shared(*plain, sources);
    EXPECT_LT(largest_difference(run(model, tokens, {50}), Reference(model).hidden(tokens)), 1e-5)
        << model::kv_groups_text(sources);
  }
}

TEST(KvSharing, KeysAndValuesMayHaveANormOfTheirOwn) {  // [05 §2.2]
  const auto plain = model::random_model(deep_spec(6));
  const auto tokens = model::random_tokens(50, plain->spec.vocab_size, 4);
  for (const Sources& sources : {Sources{0, 1, 2, 3, 4, 5}, Sources{0, 0, 2, 2, 4, 4}}) {
    model::Model model = shared(*plain, sources);
    const Rows before = run(model, tokens, {50});
    model.spec.key_value_norm = true;
    for (model::Layer& layer : model.layers) {
      layer.key_value_norm = layer.attention_norm;
    }
    EXPECT_EQ(run(model, tokens, {50}), before);  // the same gains: the same bits
    core::Rng rng(5);
    for (model::Layer& layer : model.layers) {
      layer.key_value_norm.weight = model::random_norm(model.spec.hidden_size, rng);
    }
    const Rows rows = run(model, tokens, {50});
    EXPECT_NE(rows, before);
    EXPECT_LT(largest_difference(rows, Reference(model).hidden(tokens)), 1e-5);
    EXPECT_EQ(run(model, tokens, {17, 33}), rows);
  }
}

// ---- what depends on what
// ----------------------------------------------------------------------------

TEST(KvSharing, AnOwnersKeysChangeItsGroupAndWhatFollows) {  // [05 §6.7]
  const auto plain = model::random_model(deep_spec(6));
  const model::Model model = shared(*plain, {0, 0, 2, 2, 4, 4});
  model::Model changed = model;
  core::Rng rng(6);
  changed.layers[2].key = model::random_weight(model.spec.kv_width(), model.spec.hidden_size, rng);
  const auto tokens = model::random_tokens(40, model.spec.vocab_size, 7);
  const auto record = [&](const model::Model& which) {
    kv::PagePool pool(1 << 24);
    kv::Rotation rotation(which.spec, 64);
    kv::Sequence sequence(pool,
                          kv::make_store("f32", which.spec),
                          kv::make_policy("full"),
                          kv::make_cache_layout(which.spec));
    kv::CachedAttention attention(which.spec, rotation, {{&sequence, 40}});
    Recording context(attention);
    model::forward(which, model::TokenRows{{tokens.begin(), tokens.end()}, {0, 40}}, context);
    sequence.end_step(40);
    return context;
  };
  const Recording before = record(model);
  const Recording after = record(changed);
  for (int64_t layer = 0; layer < 6; ++layer) {
    EXPECT_EQ(before.outputs(layer) == after.outputs(layer), layer < 2) << layer;
  }
}

// ---- bytes
// -------------------------------------------------------------------------------------------

struct TableRow {
  const char* name;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  const char* layout;
  int64_t bytes_per_token;
};

// Table 1 of the paper. Its H46 and H90 are missing: heads have a multiple of 16 dimensions here.
constexpr TableRow kTable[] = {{"H128-MHA", 16, 16, 128, "1", 163840},
                               {"H128-GQA4", 16, 4, 128, "1", 40960},
                               {"H128-GQA2", 16, 2, 128, "1", 20480},
                               {"H128-MQA", 16, 1, 128, "1", 10240},
                               {"H64-MQA", 32, 1, 64, "1", 5120},
                               {"H32-MQA", 64, 1, 32, "1", 2560},
                               {"H512-MQA-CLA2", 4, 1, 512, "2", 20480},
                               {"H256-MQA-CLA2", 8, 1, 256, "2", 10240},
                               {"H128-MQA-CLA2", 16, 1, 128, "2", 5120},
                               {"H64-MQA-CLA2", 32, 1, 64, "2", 2560},
                               {"H256-GQA4-CLA2", 8, 4, 256, "2", 40960},
                               {"H128-GQA4-CLA2", 16, 4, 128, "2", 20480},
                               {"H128-GQA2-CLA2", 16, 2, 128, "2", 10240},
                               {"H128-MQA-CLA3", 16, 1, 128, "3", 3584},
                               {"H128-MQA-CLA4", 16, 1, 128, "4", 2560},
                               {"CLA2-KeepEnds", 16, 1, 128, "keep-ends", 5632},
                               {"CLA2-DenseFront", 16, 1, 128, "dense-front", 5632},
                               {"CLA2-DenseBack", 16, 1, 128, "dense-back", 5632}};

TEST(KvSharing, AllocatedBytesAreThoseOfThePapersTable) {  // [05 §6.5]
  constexpr int64_t kTokens = 64;                          // whole pages
  for (const TableRow& row : kTable) {
    SCOPED_TRACE(row.name);
    model::ModelSpec spec;
    spec.num_layers = 20;
    spec.heads = row.heads;
    spec.kv_heads = row.kv_heads;
    spec.head_dim = row.head_dim;
    spec.context_length = kTokens + 1;
    spec.kv_source = methods::kv_layout(row.layout, 20);
    const auto owners = static_cast<int64_t>(spec.owning_layers().size());
    kv::PagePool pool(int64_t{1} << 28);
    kv::Rotation rotation(spec, spec.context_length);
    kv::Sequence sequence(
        pool, kv::make_store("f16", spec), kv::make_policy("full"), kv::make_cache_layout(spec));
    const auto step = [&](int64_t rows) {
      kv::CachedAttention attention(spec, rotation, {{&sequence, rows}});
      at::Tensor query = tensor::empty_floats(rows, row.heads * row.head_dim);
      at::Tensor key = tensor::empty_floats(rows, spec.kv_width());
      std::fill_n(query.mutable_data_ptr<float>(), query.numel(), 0.5F);
      std::fill_n(key.mutable_data_ptr<float>(), key.numel(), 0.5F);
      for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
        const at::Tensor own = spec.owns_kv(layer) ? key : at::Tensor();
        attention.attend(layer, query, own, own);
      }
      sequence.end_step(rows);
    };
    step(kTokens);
    EXPECT_EQ(sequence.bytes(), kTokens * row.bytes_per_token);
    EXPECT_EQ(pool.audit().live_bytes, sequence.bytes());
    EXPECT_EQ(model::kv_bytes_per_token(spec, 2).cached, row.bytes_per_token);
    EXPECT_EQ(model::kv_bytes_per_token(spec, 2).read, 20 * row.bytes_per_token / owners);
    step(1);  // a decode step writes one row an owner
    int64_t written = 0;
    for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
      written += sequence.cached_tokens(slot) - kTokens;
    }
    EXPECT_EQ(written, owners);
  }
}

}  // namespace
}  // namespace adze
