#pragma once
// Cross-layer attention (Brandon et al., arXiv:2405.12981), for inference: layouts of layers that
// share keys and values, and a model's copy whose layers share. The forward pass and the cache read
// ModelSpec::kv_source and need nothing of this folder; files are read in model/kv_sharing.h.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/checkpoint.h"
#include "model/convert.h"

namespace adze::methods {

inline constexpr const char* kKvLayoutForms =
    "a factor such as 2 or 3:remainder=last, keep-ends, dense-front, dense-back, or the owner of "
    "each layer such as 0,0,2,2";

// The layer whose keys and values each layer reads, from one of the forms above. Throws
// core::InvalidOption: another form, a factor beyond the layers, owners that cannot be.
std::vector<int64_t> kv_layout(std::string_view text, int64_t num_layers);

// The paper's layouts besides a factor: num_layers >= 2.
std::vector<int64_t> keep_ends_layout(int64_t num_layers);    // 0 | 1 2 | 3 4 | ... | last
std::vector<int64_t> dense_front_layout(int64_t num_layers);  // the lower half and the last own
std::vector<int64_t> dense_back_layout(int64_t num_layers);   // 0, 1 and the upper half own

// What `convert` has to do to make the copy, which further training can start from: an owner's key
// and value weights (with biases and the keys' norm) are the mean of its group's, other layers have
// none. Throws core::Error: the model shares already, stores keys and values in one matrix with
// queries, or has groups of unlike windows or rotation.
model::ModelChange sharing_copy(const model::Checkpoint& checkpoint,
                                const std::vector<int64_t>& kv_source);

}  // namespace adze::methods
