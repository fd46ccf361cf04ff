#include "cli/model_argument.h"

#include "data/model_store.h"
#include "model/checkpoint.h"

namespace adze::cli {

text::Tokenizer open_tokenizer(std::string_view argument) {
  return text::Tokenizer(model::read_tokenizer(data::ModelStore().resolve(argument)));
}

}  // namespace adze::cli
