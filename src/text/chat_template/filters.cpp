#include "text/chat_template/library.h"

namespace adze::text::chat_template {

Value apply_filter(Runtime& runtime,
                   const std::string& name,
                   const Value& input,
                   const Arguments& arguments) {
  runtime.step();
  for (const auto& find :
       {find_text_filter, find_number_filter, find_sequence_filter, find_selection_filter}) {
    if (const Filter filter = find(name)) {
      return filter(runtime, input, arguments);
    }
  }
  runtime.fail("there is no filter '{:.80}'", name);
}

}  // namespace adze::text::chat_template
