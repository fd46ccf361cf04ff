// The whole model's gradient: against finite differences, and whatever it must not depend on.
#include "train/objective.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_training.h"
#include "kv/cache_registry.h"
#include "kv/cached_attention.h"
#include "kv/sequence.h"
#include "model/adapter.h"
#include "model/architectures.h"
#include "model/checkpoint.h"
#include "model/forward.h"
#include "model/kv_sharing.h"
#include "model/load_model.h"
#include "model/trainable_model.h"
#include "tensor/leaf.h"
#include "train/packed_attention.h"

namespace adze::train {
namespace {

model::ModelSpec spec_of(const std::string& architecture) {
  model::ModelSpec spec;
  spec.architecture = architecture;
  spec.vocab_size = 40;
  spec.hidden_size = 64;
  model::set_architecture_constants(spec);
  spec.intermediate_size = 96;
  spec.num_layers = 4;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_dim = 16;
  spec.context_length = 64;
  spec.kv_source = model::own_kv_sources(4);
  spec.ropes = {{.base = 10000, .dims = 16, .scaling = {}}};
  spec.tied_output = true;
  return spec;
}

std::vector<model::ModelSpec> specs() {
  std::vector<model::ModelSpec> all = {
      spec_of("llama"), spec_of("qwen2"), spec_of("qwen3"), spec_of("gemma2"), spec_of("llama")};
  all[0].tied_output = false;
  all[3].attention_softcap = 5;
  all[3].output_softcap = 4;
  all[3].windows = {6, 0, 6, 0};
  all[4].kv_source = {0, 0, 2, 2};
  all[4].windows = {5, 5, 0, 0};
  return all;
}

data::TokenBatch random_batch(const std::vector<int64_t>& lengths, int64_t vocab_size) {
  core::Rng rng(11);
  data::TokenBatch batch;
  batch.sequence_starts = {0};
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) {
      const auto draw = [&] {
        return static_cast<int32_t>(rng.next_uint64() % static_cast<uint64_t>(vocab_size));
      };
      batch.tokens.push_back(draw());
      batch.targets.push_back(i % 5 == 4 ? -1 : draw());
      batch.num_targets += batch.targets.back() >= 0 ? 1 : 0;
    }
    batch.sequence_starts.push_back(static_cast<int64_t>(batch.tokens.size()));
  }
  return batch;
}

kv::Rotation rotation_of(const model::ModelSpec& spec) {
  kv::Rotation rotation(spec, spec.context_length);
  rotation.reserve_positions(spec.context_length);
  return rotation;
}

// Larger than usual, so that every part of the model has something to say.
void disturb(const model::TrainableModel& model) {
  core::Rng rng(5);
  for (int64_t i = 0; i < model.size(); ++i) {
    model.values()[i] += static_cast<float>((rng.next_uniform() - 0.5) * 0.2);
  }
}

std::vector<float> floats(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), tensor.const_data_ptr<float>() + tensor.numel()};
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  double largest = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const float difference = a.const_data_ptr<float>()[i] - b.const_data_ptr<float>()[i];
    largest = std::max(largest, std::abs(static_cast<double>(difference)));
  }
  return largest;
}

TEST(Objective, GradientIsTheSlopeInRandomDirections) {
  for (const model::ModelSpec& spec : specs()) {
    const model::TrainableModel model(spec);
    model::initialise(model, 1);
    disturb(model);
    const kv::Rotation rotation = rotation_of(spec);
    const data::TokenBatch batch = random_batch({9, 9, 1, 17}, spec.vocab_size);
    const double scale = 1 / static_cast<double>(batch.num_targets);
    add_gradients(model.model(), rotation, batch, {.scale = scale});
    // Each stored tensor by itself, so that none can hide behind another.
    for (const model::TrainableTensor& tensor : model.tensors()) {
      float* values = model.values() + tensor.offset;
      const float* gradient = model.gradients() + tensor.offset;
      double norm = 0;
      for (int64_t i = 0; i < tensor.count; ++i) {
        norm += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
      }
      norm = std::sqrt(norm);
      ASSERT_GT(norm, 1e-6) << spec.architecture << " " << tensor.name;
      // Along the gradient the slope is its norm. A step that changes the loss by some 1e-3.
      const double step = 5e-3 / norm;
      const std::vector<float> kept(values, values + tensor.count);
      const auto loss_at = [&](double distance) {
        for (int64_t i = 0; i < tensor.count; ++i) {
          values[i] = static_cast<float>(static_cast<double>(kept[static_cast<size_t>(i)]) +
                                         distance * static_cast<double>(gradient[i]) / norm);
        }
        return loss_sum(model.model(), rotation, batch) * scale;
      };
      const double reach = std::min(step, 0.05);
      const double slope = (loss_at(reach) - loss_at(-reach)) / (2 * reach);
      std::copy(kept.begin(), kept.end(), values);
      EXPECT_NEAR(slope / norm, 1, 0.02) << spec.architecture << " " << tensor.name;
    }
  }
}

TEST(Objective, MicroBatchesAddUp) {
  const model::ModelSpec spec = spec_of("llama");
  const model::TrainableModel model(spec);
  model::initialise(model, 1);
  const kv::Rotation rotation = rotation_of(spec);
  const data::TokenBatch whole = random_batch({9, 7, 20}, spec.vocab_size);
  const double scale = 1 / static_cast<double>(whole.num_targets);
  double loss = add_gradients(model.model(), rotation, whole, {.scale = scale, .z_loss = 0.1});
  const std::vector<float> expected(model.gradients(), model.gradients() + model.size());
  std::fill_n(model.gradients(), model.size(), 0.0F);
  for (size_t i = 0; i < 3; ++i) {
    const int64_t begin = whole.sequence_starts[i];
    const int64_t end = whole.sequence_starts[i + 1];
    data::TokenBatch part;
    part.tokens.assign(whole.tokens.begin() + begin, whole.tokens.begin() + end);
    part.targets.assign(whole.targets.begin() + begin, whole.targets.begin() + end);
    part.sequence_starts = {0, end - begin};
    loss -= add_gradients(model.model(), rotation, part, {.scale = scale, .z_loss = 0.1});
  }
  EXPECT_NEAR(loss, 0, 1e-4);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(model.gradients()[i], expected[i], 1e-6);
  }
}

TEST(Objective, RecomputedActivationsGiveTheSameBits) {
  for (const model::ModelSpec& spec : specs()) {
    const model::TrainableModel model(spec);
    model::initialise(model, 1);
    disturb(model);
    const kv::Rotation rotation = rotation_of(spec);
    const data::TokenBatch batch = random_batch({9, 9, 1, 17}, spec.vocab_size);
    const double kept = add_gradients(model.model(), rotation, batch, {.scale = 0.01});
    const std::vector<float> expected(model.gradients(), model.gradients() + model.size());
    std::fill_n(model.gradients(), model.size(), 0.0F);
    const double again =
        add_gradients(model.model(),
                      rotation,
                      batch,
                      {.scale = 0.01, .activations = model::Activations::kRecomputed});
    EXPECT_EQ(kept, again);
    EXPECT_EQ(std::vector<float>(model.gradients(), model.gradients() + model.size()), expected)
        << spec.architecture;
  }
}

TEST(Objective, GradientBitsDoNotDependOnThreads) {
  for (const model::ModelSpec& spec : specs()) {
    if (spec.attention_softcap > 0) {
      continue;  // libtorch's products
    }
    const model::TrainableModel model(spec);
    model::initialise(model, 1);
    disturb(model);
    const kv::Rotation rotation = rotation_of(spec);
    const data::TokenBatch batch = random_batch({60, 9, 64, 64, 50}, spec.vocab_size);
    const int threads = core::num_threads();
    std::vector<std::vector<float>> results;
    for (const int count : {1, 2, 5}) {
      core::set_num_threads(count);
      std::fill_n(model.gradients(), model.size(), 0.0F);
      const double loss = add_gradients(model.model(), rotation, batch, {.scale = 0.01});
      results.emplace_back(model.gradients(), model.gradients() + model.size());
      results.back().push_back(static_cast<float>(loss));
    }
    core::set_num_threads(threads);
    EXPECT_EQ(results[0], results[1]) << spec.architecture;
    EXPECT_EQ(results[0], results[2]) << spec.architecture;
  }
}

TEST(Objective, TrainingAndInferenceAreOneModel) {
  for (const model::ModelSpec& spec : specs()) {
    const model::TrainableModel model(spec);
    model::initialise(model, 1);
    disturb(model);
    const data::TokenBatch batch = random_batch({33}, spec.vocab_size);
    const model::TokenRows rows{{batch.tokens.begin(), batch.tokens.end()}, batch.sequence_starts};
    kv::Rotation rotation = rotation_of(spec);
    const tensor::WithoutGradients guard;
    PackedAttention packed(spec, rotation, batch.sequence_starts);
    const at::Tensor trained =
        model::logits(model.model(), model::forward(model.model(), rows, packed));
    kv::PagePool pool(1 << 24);
    kv::Sequence sequence(
        pool, kv::make_store("f32", spec), kv::make_policy("full"), kv::make_cache_layout(spec));
    kv::CachedAttention cached(spec, rotation, {{&sequence, 33}});
    const at::Tensor served =
        model::logits(model.model(), model::forward(model.model(), rows, cached));
    EXPECT_LT(largest_difference(trained, served), 2e-4) << spec.architecture;
  }
}

TEST(Objective, SequencesDoNotSeeEachOther) {
  const model::ModelSpec spec = spec_of("llama");
  const model::TrainableModel model(spec);
  model::initialise(model, 1);
  const kv::Rotation rotation = rotation_of(spec);
  data::TokenBatch batch = random_batch({20, 20}, spec.vocab_size);
  const tensor::WithoutGradients guard;
  const auto hidden = [&] {
    PackedAttention attention(spec, rotation, batch.sequence_starts);
    return model::forward(model.model(),
                          {{batch.tokens.begin(), batch.tokens.end()}, batch.sequence_starts},
                          attention);
  };
  const std::vector<float> before = floats(hidden());
  batch.tokens[3] = (batch.tokens[3] + 1) % 40;
  const std::vector<float> after = floats(hidden());
  const auto half = [](const std::vector<float>& rows) {
    return std::vector<float>(rows.begin() + static_cast<int64_t>(rows.size() / 2), rows.end());
  };
  EXPECT_EQ(half(before), half(after));
  EXPECT_NE(before, after);
  // As one sequence, as concat without a mask has it, they do.
  batch.sequence_starts = {0, 40};
  const std::vector<float> joined = floats(hidden());
  batch.tokens[3] = (batch.tokens[3] + 1) % 40;
  EXPECT_NE(half(joined), half(floats(hidden())));
}

// A temporary folder with the model saved in it, and a tokenizer.
std::filesystem::path saved_model(const model::TrainableModel& model) {
  std::string name = (std::filesystem::temp_directory_path() / "adze-model-XXXXXX").string();
  core::check(::mkdtemp(name.data()) != nullptr, "a folder");
  const std::filesystem::path folder = name;
  std::filesystem::create_directories(folder / "tokenizer");
  data::write_tokenizer_files(
      folder / "tokenizer", data::byte_pair_tokenizer({}, "gpt-2"), std::nullopt);
  model::write_model(model, core::TensorType::kF32, folder / "tokenizer", folder / "base");
  return folder;
}

TEST(LowRankFactors, GradientIsTheSlopeAndTheSavedAdapterGivesTheTrainedLogits) {
  for (const std::string architecture : {"llama", "qwen3", "phi3"}) {
    model::ModelSpec spec = spec_of(architecture);
    spec.vocab_size = 257;
    spec.tied_output = architecture == "llama";
    const model::TrainableModel origin(spec);
    model::initialise(origin, 1);
    disturb(origin);
    const auto folder = saved_model(origin);
    // Packed weights, as a file's: f32 here, so that nothing but order of sums differs.
    const model::ModelPtr base =
        model::load_model(model::open_checkpoint(folder / "base"), kernels::Arithmetic::kF32);
    const model::LowRankOptions options{.rank = 3, .alpha = 6, .targets = {"all-linear"}};
    const model::TrainableModel adapted(*base, options);
    model::initialise_factors(adapted, 3);
    const kv::Rotation rotation = rotation_of(base->spec);
    const data::TokenBatch batch = random_batch({9, 1, 17}, spec.vocab_size);
    const double untrained = loss_sum(*base, rotation, batch);
    EXPECT_EQ(loss_sum(adapted.model(), rotation, batch), untrained);
    disturb(adapted);
    EXPECT_NE(loss_sum(adapted.model(), rotation, batch), untrained);
    EXPECT_EQ(loss_sum(*base, rotation, batch), untrained);  // the base is as it was
    const double scale = 1 / static_cast<double>(batch.num_targets);
    add_gradients(adapted.model(), rotation, batch, {.scale = scale});
    for (const model::TrainableTensor& tensor : adapted.tensors()) {
      float* values = adapted.values() + tensor.offset;
      const float* gradient = adapted.gradients() + tensor.offset;
      double norm = 0;
      for (int64_t i = 0; i < tensor.count; ++i) {
        norm += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
      }
      norm = std::sqrt(norm);
      ASSERT_GT(norm, 1e-6) << architecture << " " << tensor.name;
      const std::vector<float> kept(values, values + tensor.count);
      const auto loss_at = [&](double distance) {
        for (int64_t i = 0; i < tensor.count; ++i) {
          values[i] = static_cast<float>(static_cast<double>(kept[static_cast<size_t>(i)]) +
                                         distance * static_cast<double>(gradient[i]) / norm);
        }
        return loss_sum(adapted.model(), rotation, batch) * scale;
      };
      const double reach = std::min(5e-3 / norm, 0.05);
      const double slope = (loss_at(reach) - loss_at(-reach)) / (2 * reach);
      std::copy(kept.begin(), kept.end(), values);
      EXPECT_NEAR(slope / norm, 1, 0.02) << architecture << " " << tensor.name;
    }
    model::write_factors(adapted, options, "base", folder / "adapter");
    const model::ModelPtr loaded = model::load_adapter(base, folder / "adapter");
    const model::TokenRows rows{{batch.tokens.begin(), batch.tokens.end()}, batch.sequence_starts};
    const tensor::WithoutGradients guard;
    const auto logits_of = [&](const model::Model& model) {
      PackedAttention attention(model.spec, rotation, batch.sequence_starts);
      return model::logits(model, model::forward(model, rows, attention));
    };
    EXPECT_LT(largest_difference(logits_of(adapted.model()), logits_of(*loaded)), 2e-4)
        << architecture;
    std::filesystem::remove_all(folder);
  }
}

TEST(LowRankFactors, TargetsThatTheModelLacksAreNamed) {
  const model::TrainableModel origin(spec_of("llama"));
  EXPECT_THROW(model::TrainableModel(origin.model(), {.rank = 2, .targets = {"w_pack"}}),
               core::Error);
}

TEST(TrainableModel, ValuesComeBackFromTheSavedModel) {
  std::string name = (std::filesystem::temp_directory_path() / "adze-model-XXXXXX").string();
  core::check(::mkdtemp(name.data()) != nullptr, "a folder");
  const std::filesystem::path folder = name;
  std::filesystem::create_directories(folder / "tokenizer");
  data::write_tokenizer_files(
      folder / "tokenizer", data::byte_pair_tokenizer({}, "gpt-2"), std::nullopt);
  std::vector<model::ModelSpec> all = specs();
  all.push_back(spec_of("phi3"));  // one stored matrix for queries, keys and values
  for (model::ModelSpec& spec : all) {
    spec.vocab_size = 257;
    if (spec.architecture == "llama") {
      spec.windows.clear();  // config.json has no place for them
    }
    const model::TrainableModel model(spec);
    model::initialise(model, 1);
    disturb(model);
    for (const model::TrainableTensor& tensor : model.tensors()) {
      EXPECT_EQ(tensor.offset % 16, 0);
    }
    const auto target = folder / spec.architecture;
    model::write_model(
        model, core::TensorType::kF32, folder / "tokenizer", target, "{{ messages }}");
    const model::Checkpoint checkpoint = model::open_checkpoint(target);
    EXPECT_EQ(model::read_chat_template(checkpoint), "{{ messages }}");
    const model::TrainableModel again(checkpoint.spec);
    model::read_values(again, checkpoint);
    ASSERT_EQ(again.size(), model.size()) << spec.architecture;
    for (const model::TrainableTensor& tensor : model.tensors()) {
      for (int64_t i = tensor.offset; i < tensor.offset + tensor.count; ++i) {
        // Norms that are stored without their 1 are rounded.
        ASSERT_NEAR(again.values()[i], model.values()[i], 2e-7) << tensor.name;
      }
    }
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace adze::train
