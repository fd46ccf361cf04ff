#include "cli/model_argument.h"

#include "data/model_store.h"
#include "data/tokenizer_files.h"

namespace adze::cli {

formats::GgufFile open_model(std::string_view argument) {
  return formats::GgufFile(data::ModelStore().resolve(argument));
}

text::Tokenizer open_tokenizer(const formats::GgufFile& file) {
  return text::Tokenizer(data::tokenizer_spec(file));
}

}  // namespace adze::cli
