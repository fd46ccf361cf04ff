#pragma once
// /tokenize and /detokenize: what they ask for, and their answers. The answers take long for long
// texts.

#include <cstdint>
#include <string>
#include <vector>

#include "infer/loaded_model.h"
#include "serve/request_json.h"

namespace adze::serve {

struct TokenizeRequest {
  std::string model;
  std::string text;
  bool add_special = false;
  bool with_pieces = false;
};
struct DetokenizeRequest {
  std::string model;
  std::vector<int64_t> tokens;  // -1 for what is no number
};

// All throw ApiError naming the field.
TokenizeRequest read_tokenize_request(const Json& body);
DetokenizeRequest read_detokenize_request(const Json& body);
Json tokenized(const TokenizeRequest& request, const infer::LoadedModel& loaded);
Json detokenized(const DetokenizeRequest& request, const infer::LoadedModel& loaded);

}  // namespace adze::serve
