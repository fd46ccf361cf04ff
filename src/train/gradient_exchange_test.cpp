#include "train/gradient_exchange.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/check.h"
#include "data/batch_source.h"
#include "model/architectures.h"
#include "model/trainable_model.h"
#include "train/objective.h"

namespace adze::train {
namespace {

int64_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  core::check(::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0, "a port");
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

model::ModelSpec small_spec() {
  model::ModelSpec spec;
  spec.architecture = "llama";
  spec.vocab_size = 24;
  spec.hidden_size = 32;
  model::set_architecture_constants(spec);
  spec.intermediate_size = 64;
  spec.num_layers = 4;
  spec.heads = 2;
  spec.kv_heads = 1;
  spec.head_dim = 16;
  spec.context_length = 16;
  spec.kv_source = {0, 1, 1, 3};
  spec.ropes = {{.base = 10000, .dims = 16, .scaling = {}}};
  spec.tied_output = true;
  return spec;
}

// Runs body(group) as two processes would, on two threads.
template <class Body>
void as_two(Body&& body) {
  const int64_t port = free_port();
  const auto run = [&](int64_t rank) {
    const tensor::ProcessGroup group({.rank = rank, .size = 2, .port = port}, 20);
    body(group);
  };
  std::thread other(run, 1);
  run(0);
  other.join();
}

int64_t first_of_layer(const model::TrainableModel& model, int64_t layer) {
  const auto found = std::find_if(
      model.tensors().begin(), model.tensors().end(), [&](const model::TrainableTensor& tensor) {
        return tensor.name.starts_with("blk." + std::to_string(layer) + ".");
      });
  return found->offset;
}

TEST(GradientExchange, SumsEveryValueOnceAndTheEndFirst) {
  for (const int64_t bucket : {int64_t{1}, int64_t{3000}, GradientExchange::kBucket}) {
    as_two([&](const tensor::ProcessGroup& group) {
      const model::TrainableModel model(small_spec());
      const auto mine = static_cast<float>(group.rank() + 1);
      const int64_t border = first_of_layer(model, 2);  // nothing above layer 1 lies before it
      std::fill_n(model.gradients() + border, model.size() - border, mine);
      std::fill_n(model.gradients(), border, -100.0F);
      GradientExchange exchange(group, model, bucket);
      exchange.above_is_done(3);
      exchange.above_is_done(1);
      // Had it been sent already, the others would not get what is written now.
      std::fill_n(model.gradients(), border, 10 * mine);
      exchange.above_is_done(0);
      exchange.finish();
      for (int64_t i = 0; i < model.size(); ++i) {
        ASSERT_EQ(model.gradients()[i], i < border ? 30 : 3) << i << ", bucket " << bucket;
      }
    });
  }
}

TEST(GradientExchange, OneWithoutABackwardPassSumsTheSameStretches) {
  as_two([&](const tensor::ProcessGroup& group) {
    const model::TrainableModel model(small_spec());
    std::fill_n(model.gradients(), model.size(), 2.0F);
    GradientExchange exchange(group, model, 1);
    for (int64_t layer = 3; group.rank() == 0 && layer >= 0; --layer) {
      exchange.above_is_done(layer);
    }
    exchange.finish();
    EXPECT_EQ(*std::min_element(model.gradients(), model.gradients() + model.size()), 4);
  });
}

// What has been called complete does not change any more.
TEST(GradientExchange, TheBackwardPassTellsOfLayersWhenTheyAreDone) {
  const model::ModelSpec spec = small_spec();
  const model::TrainableModel model(spec);
  model::initialise(model, 1);
  kv::Rotation rotation(spec, 16);
  rotation.reserve_positions(16);
  const data::TokenBatch batch{{1, 2, 3, 4, 5, 6}, {2, 3, 4, 5, 6, 7}, {0, 4, 6}, 6};
  for (const auto activations : {model::Activations::kKept, model::Activations::kRecomputed}) {
    std::fill_n(model.gradients(), model.size(), 0.0F);
    std::vector<int64_t> told;
    std::vector<std::vector<float>> seen;
    add_gradients(model.model(),
                  rotation,
                  batch,
                  {.activations = activations, .above_is_done = [&](int64_t layer) {
                     told.push_back(layer);
                     seen.emplace_back(model.gradients(), model.gradients() + model.size());
                   }});
    EXPECT_EQ(told, (std::vector<int64_t>{3, 2, 1, 0}));
    for (size_t i = 0; i + 1 < told.size(); ++i) {  // above the last there is nothing to look at
      const int64_t above = told[i + 1] + 1;
      const auto begin = static_cast<size_t>(first_of_layer(model, above));
      EXPECT_NE(*std::max_element(model.gradients() + begin, model.gradients() + model.size()), 0);
      for (size_t place = begin; place < seen[i + 1].size(); ++place) {
        ASSERT_EQ(seen[i + 1][place], model.gradients()[place]) << "above layer " << told[i + 1];
      }
    }
  }
}

}  // namespace
}  // namespace adze::train
