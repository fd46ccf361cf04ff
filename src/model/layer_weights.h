#pragma once
// Which weights of a layer a stored matrix holds, and which of its rows each takes. Fused matrices
// hold several; rows of queries and keys are ordered so that rotary pairs lie half a head apart.

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/model.h"

namespace adze::model {

struct WeightRows {
  tensor::LinearWeightPtr Layer::*weight;
  std::vector<int64_t> rows;  // of the stored matrix, in the order of the weight's outputs
};

// stem: of a layer's matrix in expected_tensors, "attn_q". alternating_rotary_rows: how the matrix
// is stored, as Checkpoint says; files of Hugging Face do not alternate.
std::vector<WeightRows> weights_in(const ModelSpec& spec,
                                   std::string_view stem,
                                   bool alternating_rotary_rows);

// Stored dimension of each of ours, within a head of queries or keys.
std::vector<int64_t> stored_head_dims(const ModelSpec& spec, bool alternating_rotary_rows);

}  // namespace adze::model
