#pragma once
// What distinguishes one architecture from another, as data. The forward pass reads these fields
// and never a name.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/activation/activation.h"
#include "model/rope.h"

namespace adze::model {

enum class NormKind { kRms, kLayer };
enum class Pooling { kNone, kMean, kFirst };  // rows of a text -> its embedding

struct ModelSpec {
  std::string architecture;  // a name in model/architectures.h: for files and for display
  std::string name;          // for display only
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;  // a multiple of 32
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t heads = 0;  // a multiple of kv_heads
  int64_t kv_heads = 0;
  int64_t head_dim = 0;        // a multiple of 16
  int64_t context_length = 0;  // positions seen in training

  NormKind norm = NormKind::kRms;
  double norm_epsilon = 1e-5;
  // The residual stream continues from the norm's output ("post-norm": Vaswani et al.,
  // arXiv:1706.03762), not from the sum that went into it.
  bool residual_is_normed = false;
  bool branch_norms = false;    // attention's and the feed forward's outputs are normed as well
  bool query_key_norm = false;  // RMS norm of each head's query and key, before rotation
  bool key_value_norm = false;  // what keys and values are made of is normed by a weight of its own
  bool query_key_value_bias = false;
  bool attention_output_bias = false;
  bool feed_forward_bias = false;

  kernels::Activation activation = kernels::Activation::kSilu;
  bool gated = true;  // down(act(gate x) * up x); else down(act(up x))

  bool causal = true;            // false: every row of a text sees all of it (encoders)
  double attention_scale = 0;    // of q · k; 0: 1 / sqrt(head_dim)
  double attention_softcap = 0;  // c: scores become c tanh(score / c); 0: as they are
  double output_softcap = 0;     // the same for logits
  double embedding_scale = 1;
  // Tokens that a row of a layer sees, itself included; 0: all before it. Empty: 0 everywhere.
  std::vector<int64_t> windows;
  std::vector<Rope> ropes;             // none: positions are embedded, not rotated
  std::vector<int64_t> rope_of_layer;  // index into ropes; empty: 0 everywhere
  int64_t learned_positions = 0;       // rows of the position embedding
  int64_t token_types = 0;             // rows of the token type embedding, of which row 0 is used
  bool tied_output = false;            // logits come from the embedding's own weight
  Pooling pooling = Pooling::kNone;    // how the model was trained to embed texts
  int64_t embedded_tokens = 0;  // longest text that it was trained to embed; 0: context_length

  // Layer whose keys and values layer l reads; l itself where it owns them (cross-layer attention:
  // Brandon et al., arXiv:2405.12981). kv_source[l] <= l and kv_source[kv_source[l]] ==
  // kv_source[l]; both layers have one window and one rope.
  std::vector<int64_t> kv_source;

  // Layers that own keys and values, in rising order; a cache slot each.
  std::vector<int64_t> owning_layers() const;
  bool owns_kv(int64_t layer) const { return kv_source[static_cast<size_t>(layer)] == layer; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  double score_scale() const;
  int64_t window(int64_t layer) const;
  int64_t rope_index(int64_t layer) const;

  // Throws core::Error that names field, value and legal range.
  void validate() const;

 private:
  void validate_layers() const;
  void validate_kv_source() const;
};

}  // namespace adze::model
