#pragma once
// Tensors of a model: which there must be, and what each format calls them. GGUF's names are the
// ones that the rest of this layer speaks.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/architectures.h"
#include "model/model_spec.h"

namespace adze::model {

struct ExpectedTensor {
  std::string name;  // GGUF's
  std::vector<int64_t> shape;
  int64_t layer = -1;  // -1: not a layer's
};

// All weights of a model, in the order of a forward pass.
std::vector<ExpectedTensor> expected_tensors(const ModelSpec& spec);

// nullopt: no such tensor in the architecture.
std::optional<std::string> hf_name(const Architecture& architecture, std::string_view gguf_name);
// Prefixes that some classes put before all names are understood. nullopt: unknown.
std::optional<std::string> gguf_name(const Architecture& architecture, std::string_view hf_name);

// Tensors in files of this architecture that a text model does not use: rotary tables, picture
// encoders, heads for other tasks.
bool is_ignorable(const Architecture& architecture, std::string_view hf_name);

// BERT's pooler: no part of our forward pass, but carried along, since BertModel has it.
bool is_pooler(std::string_view gguf_name);

// Whether the tensor is a norm's weight (not a bias).
bool is_norm_weight(std::string_view gguf_name);

}  // namespace adze::model
