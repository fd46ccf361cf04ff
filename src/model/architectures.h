#pragma once
// The architectures that load, and how files of each differ: names, and conventions of storage.
// What differs in the arithmetic is in ModelSpec.

#include <span>
#include <string>
#include <string_view>

#include "model/model_spec.h"

namespace adze::model {

struct Architecture {
  std::string_view name;         // ModelSpec::architecture
  std::string_view gguf;         // general.architecture; two may share one
  std::string_view model_type;   // config.json
  std::string_view model_class;  // config.json's "architectures"
  // GGUF: rows of queries and keys alternate between the halves of a head.
  bool alternating_rotary_rows = false;
  // Hugging Face: norms multiply by 1 + weight; GGUF stores the sum.
  bool norms_add_one = false;
  // Outputs of attention and feed forward are normed as well.
  bool branch_norms = false;
  // One tensor for query, key and value, one for gate and up.
  bool fused_projections = false;
};

std::span<const Architecture> architectures();
std::string architecture_names();  // for errors: "llama, mistral, ..."
// Throws core::Error that lists the known ones.
const Architecture& architecture(std::string_view name);

// What every model of the architecture has in common; call once names and sizes are set.
void set_architecture_constants(ModelSpec& spec);

// Whether layer `index` sees a window only where the files state one width for all: gemma 2
// alternates, gemma 3 has five local layers to a global one, all others are alike.
bool is_local_layer(std::string_view architecture, int64_t index);

}  // namespace adze::model
