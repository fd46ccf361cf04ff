// Our recorded operations against libtorch's own, which differentiate plain formulas.
#include <cmath>
#include <functional>
#include <vector>

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "core/rng.h"
#include "tensor/attention.h"
#include "tensor/cross_entropy.h"
#include "tensor/leaf.h"
#include "tensor/linear_weight.h"
#include "tensor/operations.h"

namespace adze::tensor {
namespace {

at::Tensor random_tensor(std::vector<int64_t> shape, uint64_t seed, double scale = 1) {
  at::Tensor values = at::empty(shape, at::kFloat);
  core::Rng rng(seed);
  for (int64_t i = 0; i < values.numel(); ++i) {
    values.mutable_data_ptr<float>()[i] = static_cast<float>((rng.next_uniform() * 2 - 1) * scale);
  }
  return values;
}

using Inputs = std::vector<at::Tensor>;

// Gradients of Σ output * pull by the inputs.
std::vector<at::Tensor> gradients(const Inputs& values,
                                  const std::function<at::Tensor(Inputs)>& function) {
  Inputs leaves;
  for (const at::Tensor& value : values) {
    leaves.push_back(value.clone().requires_grad_(true));
  }
  const at::Tensor output = function(leaves);
  (output * random_tensor(output.sizes().vec(), 99)).sum().backward();
  std::vector<at::Tensor> result = {output.detach()};
  for (const at::Tensor& leaf : leaves) {
    result.push_back(leaf.grad());
  }
  return result;
}

void expect_equal(const Inputs& values,
                  const std::function<at::Tensor(Inputs)>& ours,
                  const std::function<at::Tensor(Inputs)>& plain,
                  double tolerance = 2e-5) {
  const auto a = gradients(values, ours);
  const auto b = gradients(values, plain);
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(a[i].defined()) << i;
    EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), tolerance) << "of input " << i;
  }
}

at::Tensor plain_norm(const at::Tensor& x, const at::Tensor& weight) {
  return x * (x.square().mean(-1, true) + 1e-5).rsqrt() * weight;
}

TEST(RecordedOperations, Norms) {
  const Inputs values = {random_tensor({70, 48}, 1), random_tensor({48}, 2)};
  expect_equal(
      values,
      [](const Inputs& in) { return norm(in[0], in[1], {}, {}); },
      [](const Inputs& in) { return plain_norm(in[0], in[1]); },
      1e-4);
  // Heads: parts of a row.
  expect_equal(
      {random_tensor({9, 64}, 1), random_tensor({16}, 2)},
      [](const Inputs& in) { return norm(in[0], in[1], {}, {}); },
      [](const Inputs& in) {
        return plain_norm(in[0].view({9, 4, 16}), in[1]).reshape({9, 64});
      });
  expect_equal(
      {random_tensor({9, 32}, 1), random_tensor({32}, 2), random_tensor({32}, 3)},
      [](const Inputs& in) { return norm(in[0], in[1], in[2], {.layer_norm = true}); },
      [](const Inputs& in) { return at::layer_norm(in[0], {32}, in[1], in[2], 1e-5); });
}

TEST(RecordedOperations, AdditionsWithNorms) {
  for (const bool uses_sum : {false, true}) {
    expect_equal(
        {random_tensor({9, 32}, 1), random_tensor({9, 32}, 2), random_tensor({32}, 3)},
        [&](const Inputs& in) {
          at::Tensor residual = in[0];
          const at::Tensor y = add_norm(residual, in[1], in[2], {}, {});
          return uses_sum ? at::cat({y, residual}) : y;
        },
        [&](const Inputs& in) {
          const at::Tensor sum = in[0] + in[1];
          const at::Tensor y = plain_norm(sum, in[2]);
          return uses_sum ? at::cat({y, sum}) : y;
        });
  }
}

TEST(RecordedOperations, Activations) {
  const Inputs values = {random_tensor({9, 32}, 1, 5), random_tensor({9, 32}, 2)};
  using kernels::Activation;
  const auto plain = [](Activation activation, const at::Tensor& x) {
    return activation == Activation::kSilu
               ? at::silu(x)
               : at::gelu(x, activation == Activation::kGelu ? "none" : "tanh");
  };
  for (const auto activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
    expect_equal(
        values,
        [&](const Inputs& in) { return activate(activation, in[0], in[1]); },
        [&](const Inputs& in) { return plain(activation, in[0]) * in[1]; });
    expect_equal(
        {values[0]},
        [&](const Inputs& in) { return activate(activation, in[0], {}); },
        [&](const Inputs& in) { return plain(activation, in[0]); });
  }
}

TEST(RecordedOperations, ScalesCapsAdditionsAndRows) {
  expect_equal(
      {random_tensor({6, 16}, 1), random_tensor({6, 16}, 2)},
      [](const Inputs& in) {
        at::Tensor x = in[0];
        scale(x, 3);
        soft_cap(x, 2);
        add(x, in[1], 0.5);
        const std::vector<int64_t> rows = {4, 1, 4};
        return take_rows(x, rows);
      },
      [](const Inputs& in) {
        const at::Tensor x = (in[0] * 3 / 2).tanh() * 2 + in[1] * 0.5;
        return x.index_select(0, at::tensor({4, 1, 4}));
      });
}

TEST(RecordedOperations, Products) {
  const Inputs values = {random_tensor({9, 32}, 1),
                         random_tensor({16, 32}, 2),
                         random_tensor({48, 32}, 3),
                         random_tensor({48}, 4)};
  expect_equal(
      values,
      [](const Inputs& in) {
        const auto a = make_dense_weight(in[1]);
        const auto b = make_dense_weight(in[2], in[3]);
        const auto y = apply_together({a.get(), b.get()}, in[0]);
        return at::cat(y, 1);
      },
      [](const Inputs& in) {
        return at::cat({at::linear(in[0], in[1]), at::linear(in[0], in[2], in[3])}, 1);
      });
}

TEST(RecordedOperations, EmbeddingRows) {
  expect_equal(
      {random_tensor({10, 80}, 1)},
      [](const Inputs& in) {
        const std::vector<int64_t> rows = {3, 3, 9, 0, 3};
        return make_dense_weight(in[0])->rows(rows);
      },
      [](const Inputs& in) {
        return in[0].index_select(0, at::tensor({3, 3, 9, 0, 3}));
      });
}

TEST(RecordedOperations, Rotations) {
  kernels::RopeTable table(16, 100.0);
  table.reserve(40);
  const std::vector<int64_t> positions = {0, 1, 2, 0, 33};
  expect_equal(
      {random_tensor({5, 48}, 1)},
      [&](const Inputs& in) { return rotate(in[0], &table, positions); },
      [&](const Inputs& in) {
        at::Tensor cosine = at::empty({5, 1, 8}, at::kFloat);
        at::Tensor sine = at::empty({5, 1, 8}, at::kFloat);
        for (int64_t row = 0; row < 5; ++row) {
          for (int64_t i = 0; i < 8; ++i) {
            const double angle = static_cast<double>(positions[static_cast<size_t>(row)]) *
                                 std::pow(100.0, -static_cast<double>(i) / 8);
            cosine.mutable_data_ptr<float>()[row * 8 + i] = static_cast<float>(std::cos(angle));
            sine.mutable_data_ptr<float>()[row * 8 + i] = static_cast<float>(std::sin(angle));
          }
        }
        const auto halves = in[0].view({5, 3, 16}).chunk(2, -1);
        return at::cat(
                   {halves[0] * cosine - halves[1] * sine, halves[1] * cosine + halves[0] * sine},
                   -1)
            .reshape({5, 48});
      });
}

// Every score in full, sequence by sequence.
at::Tensor plain_attention(const Inputs& in,
                           const std::vector<int64_t>& starts,
                           const PackedAttentionShape& shape) {
  std::vector<at::Tensor> results;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const int64_t rows = starts[i + 1] - starts[i];
    const auto heads = [&](const at::Tensor& x, int64_t count) {
      return x.narrow(0, starts[i], rows).view({rows, count, shape.head_dim}).transpose(0, 1);
    };
    const int64_t group = shape.heads / shape.kv_heads;
    const at::Tensor key = heads(in[1], shape.kv_heads).repeat_interleave(group, 0);
    const at::Tensor value = heads(in[2], shape.kv_heads).repeat_interleave(group, 0);
    at::Tensor scores = at::matmul(heads(in[0], shape.heads), key.transpose(1, 2)) * shape.scale;
    if (shape.softcap > 0) {
      scores = (scores / shape.softcap).tanh() * shape.softcap;
    }
    const at::Tensor distance = at::arange(rows).view({rows, 1}) - at::arange(rows).view({1, rows});
    at::Tensor hidden = shape.causal ? distance.lt(0) : at::zeros_like(distance, at::kBool);
    if (shape.window > 0) {
      hidden = hidden.logical_or(distance.ge(shape.window));
    }
    scores = scores.masked_fill(hidden, -INFINITY);
    results.push_back(at::matmul(scores.softmax(-1), value).transpose(0, 1).reshape({rows, -1}));
  }
  return at::cat(results);
}

TEST(RecordedOperations, AttentionOfPackedSequences) {
  const std::vector<std::vector<int64_t>> layouts = {
      {0, 1}, {0, 40}, {0, 7, 14, 21}, {0, 3, 10, 17, 18, 360}, {0, 300, 600}};
  for (const auto& starts : layouts) {
    for (const auto& [softcap, window, causal] :
         std::vector<std::tuple<double, int64_t, bool>>{{0, 0, true},
                                                        {0, 5, true},
                                                        {0, 270, true},
                                                        {3, 0, true},
                                                        {3, 4, true},
                                                        {0, 0, false}}) {
      const PackedAttentionShape shape{.heads = 4,
                                       .kv_heads = 2,
                                       .head_dim = 16,
                                       .scale = 0.3,
                                       .softcap = softcap,
                                       .window = window,
                                       .causal = causal};
      const int64_t rows = starts.back();
      SCOPED_TRACE(testing::Message() << rows << " rows, cap " << softcap << ", window " << window
                                      << ", causal " << causal);
      expect_equal(
          {random_tensor({rows, 64}, 1, 2),
           random_tensor({rows, 32}, 2, 2),
           random_tensor({rows, 32}, 3, 2)},
          [&](const Inputs& in) { return packed_attention(in[0], in[1], in[2], starts, shape); },
          [&](const Inputs& in) { return plain_attention(in, starts, shape); },
          5e-5);
    }
  }
}

TEST(RecordedOperations, AttentionSeesItsOwnSequenceAlone) {
  const PackedAttentionShape shape{.heads = 2, .kv_heads = 1, .head_dim = 16, .scale = 0.25};
  const std::vector<int64_t> starts = {0, 20, 40};
  const at::Tensor query = random_tensor({40, 32}, 1);
  const at::Tensor key = random_tensor({40, 16}, 2);
  const at::Tensor value = random_tensor({40, 16}, 3);
  const at::Tensor before = packed_attention(query, key, value, starts, shape);
  at::Tensor other = key.clone();
  other.narrow(0, 0, 20).add_(1);
  const at::Tensor after = packed_attention(query, other, value, starts, shape);
  EXPECT_TRUE(before.narrow(0, 20, 20).equal(after.narrow(0, 20, 20)));
  EXPECT_FALSE(before.narrow(0, 0, 20).equal(after.narrow(0, 0, 20)));
}

TEST(RecordedOperations, CrossEntropyInChunks) {
  for (const double softcap : {0.0, 2.0}) {
    const int64_t rows = 5000;  // more than one chunk
    const int64_t vocabulary = 50;
    const at::Tensor hidden = random_tensor({rows, 32}, 1);
    const at::Tensor weight = random_tensor({vocabulary, 32}, 2);
    std::vector<int32_t> targets;
    core::Rng rng(3);
    for (int64_t i = 0; i < rows; ++i) {
      targets.push_back(static_cast<int32_t>(rng.next_uint64() % 51) - 1);
    }
    at::Tensor ours_hidden = hidden.clone().requires_grad_(true);
    at::Tensor ours_weight = weight.clone().requires_grad_(true);
    ours_weight.mutable_grad() = at::ones_like(weight);
    const CrossEntropy result = cross_entropy(ours_hidden,
                                              *make_dense_weight(ours_weight),
                                              targets,
                                              {.scale = 0.01, .z_loss = 0.1, .softcap = softcap});
    result.loss.backward();

    at::Tensor plain_hidden = hidden.clone().requires_grad_(true);
    at::Tensor plain_weight = weight.clone().requires_grad_(true);
    at::Tensor logits = at::linear(plain_hidden, plain_weight);
    if (softcap > 0) {
      logits = (logits / softcap).tanh() * softcap;
    }
    const at::Tensor ids = at::tensor(targets).to(at::kLong);
    const at::Tensor kept = ids.ge(0).to(at::kFloat);
    const at::Tensor log_sums = logits.logsumexp(1);
    const at::Tensor losses =
        (log_sums - logits.gather(1, ids.clamp_min(0).unsqueeze(1)).squeeze(1)) * kept;
    ((losses + 0.1 * log_sums.square() * kept).sum() * 0.01).backward();

    EXPECT_NEAR(result.sum(), losses.sum().item<double>(), 1e-2);
    EXPECT_LT((ours_hidden.grad() - plain_hidden.grad()).abs().max().item<double>(), 1e-6);
    // It adds to what .grad holds.
    EXPECT_LT((ours_weight.grad() - 1 - plain_weight.grad()).abs().max().item<double>(), 1e-4);
    for (int64_t i = 0; i < rows; i += 97) {
      EXPECT_NEAR(result.losses[static_cast<size_t>(i)], losses[i].item<double>(), 2e-5);
    }
    const WithoutGradients guard;
    const auto unrecorded =
        cross_entropy(ours_hidden, *make_dense_weight(ours_weight), targets, {.softcap = softcap});
    for (size_t i = 0; i < targets.size(); ++i) {
      ASSERT_NEAR(unrecorded.losses[i], result.losses[i], 4e-6);
    }
  }
}

TEST(RecordedOperations, LeavesShareTheirBuffers) {
  const at::Tensor values = zero_floats(40);
  const at::Tensor sums = zero_floats(40);
  const std::vector<int64_t> shape = {2, 8};
  const at::Tensor leaf = make_leaf(values, sums, 16, shape);
  values.fill_(2);
  for (int repeat = 0; repeat < 2; ++repeat) {
    const std::vector<int64_t> rows = {1};
    make_dense_weight(leaf)->rows(rows).sum().backward();
  }
  EXPECT_EQ(sums.sum().item<double>(), 16);
  EXPECT_EQ(sums.narrow(0, 24, 8).sum().item<double>(), 16);
  EXPECT_EQ(leaf[1][3].item<float>(), 2);
}

}  // namespace
}  // namespace adze::tensor
