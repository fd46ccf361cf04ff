#pragma once
// What distinguishes one architecture from another, as data. The forward pass reads these fields
// and never a name.

#include <cstdint>
#include <string>
#include <vector>

namespace adze::model {

struct ModelSpec {
  std::string architecture;  // for display only
  std::string name;          // for display only
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;  // a multiple of 32
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t heads = 0;  // a multiple of kv_heads
  int64_t kv_heads = 0;
  int64_t head_dim = 0;        // a multiple of 16
  int64_t context_length = 0;  // positions seen in training
  double rms_norm_epsilon = 1e-5;
  double rope_base = 10000.0;
  // Layer whose keys and values layer l reads; l itself where it owns them (cross-layer attention:
  // Brandon et al., arXiv:2405.12981). kv_source[l] <= l and kv_source[kv_source[l]] ==
  // kv_source[l].
  std::vector<int64_t> kv_source;

  // Layers that own keys and values, in rising order; a cache slot each.
  std::vector<int64_t> owning_layers() const;
  int64_t kv_width() const { return kv_heads * head_dim; }

  // Throws core::Error that names field, value and legal range.
  void validate() const;
};

}  // namespace adze::model
