#include "infer/plan.h"

#include <algorithm>
#include <tuple>

#include "core/error.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "kv/cache_registry.h"
#include "model/load_model.h"

namespace adze::infer {
namespace {

// Resident beside weights and cache, measured after a prompt of 512 tokens: libtorch and the
// program, and rows of the widest layers. The tokenizer's tables come on top, by entry.
constexpr int64_t kProgramBytes = int64_t{180} << 20;
constexpr int64_t kTokenBytes = 400;
constexpr int64_t kStepRows = 512;

int64_t program_bytes(const model::ModelSpec& spec) {
  const int64_t widest = 4 * spec.hidden_size + 2 * spec.intermediate_size +
                         (spec.heads + 2 * spec.kv_heads) * spec.head_dim;
  return kProgramBytes + spec.vocab_size * kTokenBytes +
         kStepRows * widest * static_cast<int64_t>(sizeof(float));
}

int64_t sequence_bytes(const kv::KvStore& store, int64_t slots, int64_t tokens) {
  return tokens == 0 ? 0 : slots * store.most_slot_bytes(tokens);
}

// The longest text whose caches fit `bytes`, by bisection: a store's bytes rise with tokens.
int64_t longest(const kv::KvStore& store, int64_t slots, int64_t bytes, int64_t most) {
  int64_t low = 0;
  int64_t high = most;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (sequence_bytes(store, slots, middle) <= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Four 8-bit products take the room of one in f32.
constexpr double kInt8Speed = 4;

// Operations of all products of a token, as so many in f32: not the embedding, which is looked up,
// unless the output is the same one.
double product_flops(const model::Checkpoint& checkpoint) {
  double flops = 0;
  for (const formats::StoredTensor& tensor : checkpoint.tensors) {
    const bool looked_up = tensor.name == "token_embd.weight" && !checkpoint.spec.tied_output;
    const bool positions =
        tensor.name == "position_embd.weight" || tensor.name == "token_types.weight";
    if (tensor.shape.size() == 2 && !looked_up && !positions) {
      flops += 2 * static_cast<double>(tensor.shape[0]) * static_cast<double>(tensor.shape[1]) /
               (kernels::has_int8_products(tensor.type) ? kInt8Speed : 1);
    }
  }
  return flops;
}

// Of an embedding that is only looked up.
int64_t unread_bytes(const model::Checkpoint& checkpoint) {
  if (checkpoint.spec.tied_output) {
    return 0;
  }
  const formats::StoredTensor& embedding = checkpoint.tensor("token_embd.weight");
  return kernels::packed_bytes(embedding.type, embedding.shape[0], embedding.shape[1]);
}

// What a run without cache flags has, if it fits; else whole texts before cut ones, then speed.
size_t advised_row(const std::vector<PlanRow>& rows) {
  const auto value = [](const PlanRow& row) {
    const bool whole = row.policy == "full";
    return std::tuple(row.fits,
                      row.fits && whole && row.store == "f16",
                      row.fits && whole,
                      row.decode_tokens_per_second);
  };
  return static_cast<size_t>(
      std::max_element(rows.begin(),
                       rows.end(),
                       [&](const auto& a, const auto& b) { return value(a) < value(b); }) -
      rows.begin());
}

}  // namespace

Plan make_plan(const model::Checkpoint& checkpoint,
               const PlanRequest& request,
               const kernels::MachinePeaks& peaks) {
  const model::ModelSpec& spec = checkpoint.spec;
  const auto slots = static_cast<int64_t>(spec.owning_layers().size());
  Plan plan;
  plan.weight_bytes = model::packed_model_bytes(checkpoint);
  plan.program_bytes = program_bytes(spec);
  plan.prefill_tokens_per_second = peaks.flops_per_second / product_flops(checkpoint);
  const int64_t room = request.memory_bytes - plan.weight_bytes - plan.program_bytes;
  for (const kv::StoreEntry& store_entry : kv::store_entries()) {
    const auto store = kv::make_store(store_entry.name, spec);
    for (const kv::PolicyEntry& policy_entry : kv::policy_entries()) {
      const auto policy = kv::make_policy(policy_entry.name);
      PlanRow row;
      row.store = store->name();
      row.policy = policy->name();
      row.cached_tokens = policy->most_cached(request.context);
      if (policy->evicts() && !policy->endless()) {
        continue;  // needs room for the whole prompt all the same
      }
      const int64_t each = sequence_bytes(*store, slots, row.cached_tokens);
      row.bytes = each * request.sequences;
      row.fits = row.bytes <= room;
      const int64_t share = std::max<int64_t>(0, room) / request.sequences;
      row.longest_context =
          policy->endless() && row.fits ? -1 : longest(*store, slots, share, spec.context_length);
      // Every layer reads, whoever owns what it reads.
      const int64_t read = sequence_bytes(*store, spec.num_layers, row.cached_tokens);
      row.decode_tokens_per_second =
          peaks.read_bytes_per_second /
          static_cast<double>(plan.weight_bytes - unread_bytes(checkpoint) + read);
      plan.rows.push_back(std::move(row));
    }
  }
  plan.advised = advised_row(plan.rows);
  return plan;
}

}  // namespace adze::infer
